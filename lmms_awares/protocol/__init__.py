"""The text of a conversation: tool calls, prompts and the turns that answer a call. No torch."""

from lmms_awares.protocol.adaptvision import AdaptVision
from lmms_awares.protocol.base import ToolProtocol
from lmms_awares.protocol.boxes import BoxCall, BoxProtocol
from lmms_awares.protocol.ergo import Ergo
from lmms_awares.protocol.free_box import FreeBox
from lmms_awares.protocol.get_crops import CALL_BUDGET, TOOL_NAME, GetCrops, ToolCall, format_call, parse_reply
from lmms_awares.protocol.visionthink import VisionThink

__all__ = [
    "CALL_BUDGET",
    "PROTOCOLS",
    "TOOL_NAME",
    "AdaptVision",
    "BoxCall",
    "BoxProtocol",
    "Ergo",
    "FreeBox",
    "GetCrops",
    "ToolCall",
    "ToolProtocol",
    "VisionThink",
    "format_call",
    "parse_reply",
]

PROTOCOLS: dict[str, type[GetCrops | FreeBox | VisionThink | AdaptVision | Ergo]] = {
    "get_crops": GetCrops,
    "free_box": FreeBox,
    "visionthink": VisionThink,
    "adaptvision": AdaptVision,
    "ergo": Ergo,
}
