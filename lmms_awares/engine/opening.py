"""Which engine a run's arguments ask for: a server, or the checkpoint in this process."""

from lmms_awares.engine.turns import Engine
from lmms_awares.models.config import CommonArgs


def open_engine(args: CommonArgs, device: str) -> Engine:
    """Find the server that `args` name, else load the checkpoint.

    Raises:
        ConfigError: see `ServerEngine.open` and `LocalEngine.open`.
    """
    if args.base_url is not None:
        from lmms_awares.engine.server import ServerEngine

        return ServerEngine.open(args)
    from lmms_awares.engine.local import LocalEngine

    return LocalEngine.open(args, device)
