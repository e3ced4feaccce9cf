"""Which engine a run's arguments ask for: a server, or the checkpoint in this process."""

from typing import TYPE_CHECKING

from lmms_awares.engine.turns import Engine
from lmms_awares.models.config import CommonArgs, PruningArgs

if TYPE_CHECKING:
    from lmms_awares.engine.local import LocalEngine

# What decides the model and the processor that are loaded.
_LOADED = {"pretrained", "adapter", "dtype", "device_map", "attn_implementation", "min_pixels", "max_pixels"}


class _Kept:
    """The engine that was opened last, for the next run in this process."""

    wanted = False
    key = ""
    engine: "LocalEngine | None" = None


def open_engine(args: CommonArgs, device: str) -> Engine:
    """Find the server that `args` name, else load the checkpoint.

    Raises:
        ConfigError: see `ServerEngine.open` and `LocalEngine.open`.
    """
    if args.base_url is not None:
        from lmms_awares.engine.server import ServerEngine

        return ServerEngine.open(args)
    from lmms_awares.engine.local import LocalEngine

    if not _Kept.wanted:
        return LocalEngine.open(args, device)
    key = f"{args.model_dump(include=_LOADED)} {device}"
    if _Kept.engine is None or _Kept.key != key:
        _Kept.engine = None  # first: two models may not fit beside each other
        _Kept.engine = LocalEngine.open(args.model_copy(update={"pruner": None}), device)
        _Kept.key = key
    pruner = args.make_pruner() if isinstance(args, PruningArgs) else None
    return _Kept.engine.with_pruner(pruner)


def keep_model() -> None:
    """From now on let each run in this process have the last one's model, where it asks for the same.

    Example:
        keep_model()
        for row in rows:
            evaluate.run(row)
    """
    _Kept.wanted = True
