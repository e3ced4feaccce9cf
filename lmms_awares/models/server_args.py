"""`--model_args` that put a server in this process's place; they go with every model whose tokens nothing drops."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmms_awares.errors import ConfigError


class ServerArgs(BaseModel):
    """Arguments of the server engine; see docs/serving.md.

    Attributes:
        base_url: an OpenAI-compatible server that serves `pretrained`, up to and including `/v1`; default: none, the
            checkpoint is loaded into this process.
        served_model: its name there, where that is not `pretrained`'s.
        api_key_env: the environment variable that holds the server's key; default: no key.
        concurrency: samples in flight at most; fewer where the server pushes back.
        request_timeout: seconds that one request may take, from its start to its last token.
    """

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    # Of the process that holds the weights, which is the server's.
    of_weights: ClassVar[tuple[str, ...]] = (
        *("adapter", "dtype", "device_map", "attn_implementation", "rev", "reuse_cache", "workers"),
    )

    base_url: str | None = None
    served_model: str | None = None
    api_key_env: str | None = None
    concurrency: int = Field(default=16, ge=1, le=1024)
    request_timeout: float = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _server_agrees(self) -> "ServerArgs":
        if self.base_url is None:
            needing = [name for name in ServerArgs.model_fields if name in self.model_fields_set and name != "base_url"]
            if needing:
                raise ValueError(f"{needing[0]} needs base_url=http://HOST:PORT/v1")
            return self
        for name in self.of_weights:
            if name in self.model_fields_set:
                raise ValueError(f"{name} has no effect with base_url: it is the server's; leave it out")
        return self


def without_server(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those of the server, on which no answer depends: what serves is part of `Engine.revision`."""
    return {name: value for name, value in settings.items() if name not in ServerArgs.model_fields}


def check_batch_size(args: ServerArgs, batch_size: int) -> None:
    """Refuse batches with a server, which makes its own.

    Raises:
        ConfigError: several samples in a batch.
    """
    if args.base_url is not None and batch_size != 1:
        raise ConfigError(
            f"batch_size={batch_size} has no effect with base_url: the server makes its batches; give concurrency=N"
        )
