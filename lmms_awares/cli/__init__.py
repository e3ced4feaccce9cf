"""The `awares` command, a file per subcommand. They import what they need when they run: `--help` stays quick."""

from lmms_awares.cli.awares import app, main

__all__ = ["app", "main"]
