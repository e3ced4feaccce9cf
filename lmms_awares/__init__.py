"""lmms-awares: how much does a vision-language model really need to see?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmms_awares.chat import Chat

__version__ = "0.2.0"

__all__ = ["__version__", "load"]


def load(pretrained: str | None = None, **settings: Any) -> "Chat":
    """Load a checkpoint to ask about images, without lmms-eval; see `lmms_awares.chat.load` for the settings.

    Example:
        chat = lmms_awares.load("Qwen/Qwen2.5-VL-7B-Instruct")
        chat.ask("receipt.jpg", "What is the total?").answer
    """
    from lmms_awares.chat import load as load_chat  # torch and transformers load with it

    return load_chat(pretrained, **settings)
