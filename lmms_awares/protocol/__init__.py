"""What is said: tool calls, prompts and the turns that answer a call. Pure text, no torch."""

from lmms_awares.protocol.get_crops import CALL_BUDGET, TOOL_NAME, ToolCall, format_call, parse_reply

__all__ = ["CALL_BUDGET", "TOOL_NAME", "ToolCall", "format_call", "parse_reply"]
