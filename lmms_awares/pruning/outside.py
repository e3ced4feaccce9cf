"""Pruners from outside the package, named by module and class: `my_module:MyPruner`."""

import inspect
from importlib import import_module

from lmms_awares.pruning.base import Pruner, PruningError


def load_pruner(place: str) -> type[Pruner]:
    """Import the class that `module:Class` names; importing the module runs its code.

    Raises:
        PruningError: no such module, one that fails to import, no such class, or a class that is no whole pruner.

    Example:
        >>> load_pruner("lmms_awares.pruning.random:Random").name
        'random'
    """
    module_name, _, class_name = place.partition(":")
    if not module_name or not class_name:
        raise PruningError(f"pruner={place} must read pruner=MODULE:CLASS")
    found = _members(place, module_name)
    if class_name not in found:
        raise PruningError(f"pruner={place}: {module_name} holds no {class_name}; {_alternatives(found)}")
    kind = found[class_name]
    if not (isinstance(kind, type) and issubclass(kind, Pruner)):
        raise PruningError(f"pruner={place}: {class_name} must be a subclass of lmms_awares.pruning.Pruner")
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(vars(kind)["__abstractmethods__"]))
        raise PruningError(f"pruner={place}: {class_name} is abstract; it must define {missing}")
    if not any("name" in vars(base) for base in kind.__mro__ if base is not Pruner):
        raise PruningError(f'pruner={place}: {class_name} has no name; give it one, such as name = "{class_name}"')
    return kind


def _members(place: str, module_name: str) -> dict[str, object]:
    """Return everything that the module defines.

    Raises:
        PruningError: a module that cannot be imported.
    """
    try:
        return vars(import_module(module_name))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(place, module_name, error) from error
        raise PruningError(
            f"pruner={place}: there is no module {error.name}; install it, or put its folder into PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # whatever its code does
        raise _failed(place, module_name, error) from error


def _failed(place: str, module_name: str, error: BaseException) -> PruningError:
    reason = " ".join(str(error).split())
    return PruningError(f"pruner={place}: importing {module_name} failed with {type(error).__name__}: {reason}")


def _alternatives(found: dict[str, object]) -> str:
    own = [name for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Pruner)]
    return f"its pruners: {', '.join(own)}" if own else "it holds no pruner at all"
