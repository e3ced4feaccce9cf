"""String constants read from somebody else's source file, without running the file."""

import ast
import re
import warnings
from collections.abc import Iterator

from lmms_awares.errors import UserError


class LiteralError(UserError):
    """A constant that cannot be read; the message is one line that names it and the reason."""


_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _UnsupportedError(Exception):
    """A value that cannot be known without running the source; the message names the construct."""


def _value(node: ast.expr, known: dict[str, object]) -> object:
    """Return the value of a literal, a known name, `+` of strings, or an f-string of these.

    Raises:
        _UnsupportedError: any other expression.
    """
    match node:
        case ast.Name(id=name):
            value = known.get(name, _UnsupportedError(f"unknown name {name}"))
            if isinstance(value, _UnsupportedError):
                raise value
            return value
        case ast.JoinedStr(values=parts):
            return "".join(str(_value(part, known)) for part in parts)
        case ast.FormattedValue(value=inner, conversion=-1 | 115, format_spec=None):  # {x}, {x!s}
            return str(_value(inner, known))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _value(left, known), _value(right, known)
            if isinstance(first, str) and isinstance(second, str):
                return first + second
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        code = " ".join(ast.unparse(node).split())
        raise _UnsupportedError(f"{type(node).__name__} `{code[:60]}` is not a literal") from None


def _evaluate(node: ast.expr, known: dict[str, object]) -> object:
    """Evaluate as `_value`, but return its error as a value: an error matters only to a reader of that name."""
    try:
        return _value(node, known)
    except _UnsupportedError as failure:
        return failure


def _bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds, or changes by a subscript or attribute, at module level."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return  # what is assigned inside is not a module name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
            yield from (n.id for n in ast.walk(node.value) if isinstance(n, ast.Name))
    for child in ast.iter_child_nodes(node):
        yield from _bound_names(child)


def _follow(statements: list[ast.stmt], known: dict[str, object]) -> None:
    """Go through module-level statements in order and record in `known` the value of each name."""
    for statement in statements:
        # Loops, try, del, imports, an `if` that cannot be decided ...: what they bind cannot be known.
        value: object = _UnsupportedError(f"set by {type(statement).__name__} in line {statement.lineno}")
        match statement:
            case ast.If(test=test) if isinstance(taken := _evaluate(test, known), bool):
                _follow(statement.body if taken else statement.orelse, known)
                continue
            case ast.Assign(targets=[ast.Name()]) | ast.AnnAssign(target=ast.Name()) if statement.value:
                value = _evaluate(statement.value, known)
        known |= dict.fromkeys(_bound_names(statement), value)


def extract_constant(source_code: str, name: str) -> str:
    """Return the string that `name` holds at the end of the module, without running anything.

    `name` may be dotted, `Class.method.variable`: then the first value that the variable is given in there, whatever
    the branch. Later changes by code (a method call, a function with `global`) are not seen: check a digest.

    Raises:
        LiteralError: a value that needs more than literals, `+`, f-strings, such names, and `if` on a bool.

    Example:
        >>> extract_constant("A = 'one'; B = A + ' two'", "B")
        'one two'
    """
    known: dict[str, object] = {}
    *scopes, variable = name.split(".")
    try:
        with warnings.catch_warnings(action="ignore"):  # stray escapes in it are not our user's concern
            module = ast.parse(source_code)
            _follow(module.body, known)
            value = _first_value(module, scopes, variable, known) if scopes else known.get(variable, _absent())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # also null bytes, absurd nesting
        raise LiteralError(f"cannot take constant {name}: the file is not Python ({error})") from None
    if isinstance(value, str):
        return value
    reason = value if isinstance(value, _UnsupportedError) else f"{type(value).__name__} is not a string"
    raise LiteralError(f"cannot take constant {name}: {reason}")


def _absent() -> _UnsupportedError:
    return _UnsupportedError("there is no such constant")


def _first_value(scope: ast.AST, scopes: list[str], variable: str, known: dict[str, object]) -> object:
    """Return the first value of `variable` inside the nested classes and functions `scopes`."""
    for name in scopes:
        inner = [n for n in ast.iter_child_nodes(scope) if isinstance(n, _SCOPES) and n.name == name]
        if not inner:
            return _absent()
        scope = inner[-1]
    given = [
        node
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [variable]
    ]
    return _evaluate(min(given, key=lambda node: node.lineno).value, known) if given else _absent()


def first_python_block(markdown: str) -> str:
    """Return the code in the first block fenced as ```python.

    Raises:
        LiteralError: there is none.
    """
    if block := re.search(r"^```python[ \t]*\n(.*?)^```[ \t]*$", markdown.replace("\r\n", "\n"), re.M | re.S):
        return block[1]
    raise LiteralError("there is no ```python block")
