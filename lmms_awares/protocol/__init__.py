"""The text of a conversation: tool calls, prompts and the turns that answer a call. No torch."""

from lmms_awares.protocol.base import ToolProtocol
from lmms_awares.protocol.get_crops import CALL_BUDGET, TOOL_NAME, GetCrops, ToolCall, format_call, parse_reply
from lmms_awares.protocol.visionthink import VisionThink

__all__ = [
    "CALL_BUDGET",
    "PROTOCOLS",
    "TOOL_NAME",
    "GetCrops",
    "ToolCall",
    "ToolProtocol",
    "VisionThink",
    "format_call",
    "parse_reply",
]

PROTOCOLS: dict[str, type[GetCrops] | type[VisionThink]] = {"get_crops": GetCrops, "visionthink": VisionThink}
