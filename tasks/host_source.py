"""What the functions of lmms-eval's tasks reach, found in their source: nothing is imported or run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lmms_awares.tasks.host_index import Function, module_file

_DEPTH = 6  # of functions that only hand on what another returns
Visuals = frozenset[str]  # of "none", "one", "several", "some": images that a document may have; "some": any number


@dataclass(frozen=True)
class Module:
    """A parsed module: definitions at its top (also below `if` and `try`), and what every import in it names."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str | None]]
    required: tuple[str, ...]  # packages without which it cannot be imported


@dataclass(frozen=True)
class Reach:
    """What functions use, directly or through others of the tasks.

    Attributes:
        nodes: the definitions, functions, classes and values.
        packages: modules outside lmms-eval's tasks, dotted.
        missing: names that are defined nowhere, those of Python itself among them.
    """

    nodes: tuple[ast.stmt, ...] = ()
    packages: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    @property
    def words(self) -> str:
        """Names and texts in its functions and classes, one a line; comments and documentation are left out."""
        return "\n".join(word for node in self.nodes for word in _words(node))


@dataclass
class _Found:
    nodes: list[ast.stmt] = field(default_factory=list)
    packages: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    seen: set[tuple[Path, str]] = field(default_factory=set)


@cache
def parsed(file: Path) -> Module:
    """Parse a module.

    Raises:
        SyntaxError, UnicodeDecodeError: it is no Python.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                imports[name.asname or name.name.split(".")[0]] = (name.name, None)
        elif isinstance(node, ast.ImportFrom):
            imports |= {name.asname or name.name: (_absolute(node, file), name.name) for name in node.names}
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in _top(tree.body):
        for defined in _defined(statement):
            definitions.setdefault(defined, []).append(statement)
    required = [name for node in tree.body for name in _imported(node, file)]
    return Module(definitions, imports, tuple(required))


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    """Return the dotted module of `from … import`; a relative one as it would be looked for beside its file."""
    if not node.level:
        return node.module or ""
    parts = file.parent.parts[: len(file.parent.parts) - (node.level - 1)]
    inside = parts[parts.index("lmms_eval") :] if "lmms_eval" in parts else ()
    return ".".join([*inside, *([node.module] if node.module else [])])


def _imported(node: ast.stmt, file: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [_absolute(node, file)] if isinstance(node, ast.ImportFrom) else []


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            inner = [*node.body, *([] if isinstance(node, ast.With) else node.orelse)]
            if isinstance(node, ast.Try):
                inner += [statement for handler in node.handlers for statement in handler.body] + node.finalbody
            yield from _top(inner)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


@cache
def _words(node: ast.stmt) -> tuple[str, ...]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ()
    alone = {id(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Expr)}  # documentation is
    found: list[str] = []
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.FunctionDef(name=word):
                found.append(word)
            case ast.Constant(value=str(word)) if id(inner) not in alone:
                found.append(word)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found += [name.name for name in names]
    return tuple(found)


@cache
def reach(*functions: Function) -> Reach:
    """Return what functions use; one whose module is not there counts as missing.

    Raises:
        SyntaxError, UnicodeDecodeError: a module that is no Python.
    """
    found = _Found()
    for function in functions:
        if function.module is None:
            found.missing.add(function.name)
        else:
            _follow(function.module, function.attribute, found)
    return Reach(tuple(found.nodes), frozenset(found.packages), frozenset(found.missing))


@cache
def _uses(file: Path, name: str) -> tuple[tuple[ast.stmt, ...], frozenset[str]]:
    """Return the definitions of a module's name, and the names that they read."""
    nodes = parsed(file).definitions.get(name, [])
    read = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return tuple(nodes), frozenset(read)


def _follow(file: Path, name: str, found: _Found) -> None:
    if (file, name) in found.seen:
        return
    found.seen.add((file, name))
    module, (nodes, used) = parsed(file), _uses(file, name)
    found.nodes += nodes
    for word in used if nodes else {name}:
        if word in module.definitions:
            _follow(file, word, found)
        elif word in module.imports:
            _follow_import(*module.imports[word], file, found)
        elif not nodes:
            found.missing.add(name)


def _follow_import(dotted: str, name: str | None, file: Path, found: _Found) -> None:
    target = module_file(dotted, file.parent)
    if target is not None and name is not None and name in {*parsed(target).definitions, *parsed(target).imports}:
        _follow(target, name, found)
    else:
        found.packages.add(f"{dotted}.{name}" if name is not None and dotted.startswith("lmms_eval") else dotted)


@cache
def needed(file: Path) -> frozenset[str]:
    """Return the packages that a module and those of the tasks that it imports cannot be imported without."""
    waiting, seen, found = [file], {file}, set()
    while waiting:
        here = waiting.pop()
        for dotted in parsed(here).required:
            target = module_file(dotted, here.parent)
            if target is None:
                found.add(dotted.partition(".")[0])
            elif target not in seen:
                seen.add(target)
                waiting.append(target)
    return frozenset(found)


@cache
def visuals(function: Function) -> Visuals:
    """Return how many images a `doc_to_visual` may return for one document, by its `return` statements."""
    file = function.module
    return frozenset() if file is None else _visuals(file, function.attribute, 0)


def _visuals(file: Path, name: str, depth: int) -> Visuals:
    module = parsed(file)
    nodes = [node for node in module.definitions.get(name, []) if isinstance(node, ast.FunctionDef)]
    if nodes and depth < _DEPTH:
        returned = [node.value for node in ast.walk(nodes[-1]) if isinstance(node, ast.Return)]
        return frozenset().union(*(_counted(value, nodes[-1], file, depth) for value in returned))
    if name in module.imports and depth < _DEPTH:
        dotted, attribute = module.imports[name]
        target = module_file(dotted, file.parent)
        if target is not None and attribute is not None:
            return _visuals(target, attribute, depth + 1)
    return frozenset({"some"})


def _counted(value: ast.expr | None, function: ast.FunctionDef, file: Path, depth: int) -> Visuals:
    """Return how many images an expression stands for that `function` returns."""

    def inner(*values: ast.expr) -> Visuals:
        return frozenset().union(*(_counted(one, function, file, depth + 1) for one in values))

    match value:
        case None | ast.Constant(value=None):
            return frozenset({"none"})
        case ast.List(elts=elements) if not any(isinstance(element, ast.Starred) for element in elements):
            return frozenset({("none", "one")[len(elements)] if len(elements) < 2 else "several"})
        case ast.IfExp(body=body, orelse=other) if depth < _DEPTH:
            return inner(body, other)
        case ast.Call(func=ast.Name(id=name)) if name not in ("list", "sorted"):
            return _visuals(file, name, depth + 1)
        case ast.Name(id=name) if depth < _DEPTH and not _grows(name, function):
            assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
            given = [node.value for node in assigned if any(_is(target, name) for target in node.targets)]
            return inner(*given) or frozenset({"some"})
    return frozenset({"some"})


def _grows(name: str, function: ast.FunctionDef) -> bool:
    methods = (n.func for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return any(method.attr in ("append", "extend", "insert") and _is(method.value, name) for method in methods)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def given_to_all(function: Function) -> frozenset[str]:
    """Return the metrics that a `process_results` gives every document: the plain keys of all it returns."""
    file = function.module
    if file is None:
        return frozenset()
    for node in parsed(file).definitions.get(function.attribute, []):
        returned = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return)]
        dicts = [value for value in returned if isinstance(value, ast.Dict)]
        if dicts and len(dicts) == len(returned):
            keys = [{key.value for key in one.keys if isinstance(key, ast.Constant)} for one in dicts]
            return frozenset(key for key in set.intersection(*keys) if isinstance(key, str))
    return frozenset()


def names_hundred(found: Reach) -> bool:
    """Return True where something is multiplied by 100, or 100 is given as a value: a score may be in percent."""
    for node in (inner for outer in found.nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            values: list[ast.expr] = [node.left, node.right]
        elif isinstance(node, ast.IfExp):
            values = [node.body, node.orelse]
        elif isinstance(node, ast.Dict):
            values = list(node.values)
        elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
            values = [node.value]
        else:
            continue
        if any(isinstance(value, ast.Constant) and value.value in (100, 100.0) for value in values):
            return True
    return False
