"""A hash of the code that answers depend on, so that an edited pruner never gets the answers of its older version."""

import sys
from functools import cache
from pathlib import Path
from uuid import uuid4

from lmms_awares.journal import digest

_ROOT = Path(__file__).parent
# What no answer depends on: the command, what is done with answers, curation, the mini suite, and tasks (their prompts
# are in the journal's key as texts).
_COMMAND = "__main__ doctor evaluate host_arguments plan plugin quiet stamps steps streams yaml_settings"
_WITHOUT_EFFECT = tuple(f"{name}.py" for name in _COMMAND.split())
_OTHER_ROOMS = ("cli", "curation", "mini", "report", "suites", "tasks")


def code_hash(*plugins: type) -> str:
    """Hash this package's sources that answers depend on, and the modules that define `plugins`; a hex sha256.

    Classes of this package and of Python's library add nothing. A class without a source file (typed into an
    interpreter) gives another hash in every process, so that no recorded answer is reused for it.
    """
    own = {__name__.partition(".")[0], *sys.stdlib_module_names, *sys.builtin_module_names}
    modules = {base.__module__ for plugin in plugins for base in plugin.__mro__}
    outside = sorted(name for name in modules if name.partition(".")[0] not in own)
    return digest(_package_hash(), *(_module_hash(name) for name in outside))


@cache
def _package_hash() -> str:
    files = (file for file in _ROOT.rglob("*.py") if file.relative_to(_ROOT).parts[0] not in _OTHER_ROOMS)
    decisive = sorted(str(file.relative_to(_ROOT)) for file in files if file.name not in _WITHOUT_EFFECT)
    return digest(*(part for name in decisive for part in (name, (_ROOT / name).read_bytes())))


def _module_hash(name: str) -> str:
    file = sys.modules[name].__dict__.get("__file__")
    return digest(name, Path(file).read_bytes()) if file else digest(name, uuid4().hex)
