"""An OpenAI-compatible server as an engine: vLLM, `transformers serve`, and what speaks like them."""

from lmms_awares.engine.server.engine import ServerEngine

__all__ = ["ServerEngine"]
