"""Functions by their source, for a Python that cannot read their byte code.

The text of a function goes along only if compiling it here gives the very code that the function
has: a file that was edited since, or a decorator that rewrites code, is noticed where it can be.
The same steps then compile it on a worker of another version.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import linecache
import re
import types
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fxhpc.serialize.sources import bound_by_imports

#: Characters of a file that is searched for a lambda which does not stand in a line of its own.
_LARGEST_FILE = 1_000_000
#: Texts shorter than this do not gain by compression.
_COMPRESSED_FROM = 300
#: Texts that came with functions, kept so that the functions can be sent on.
_KEPT_TEXTS = 4096

_FLAGS = __future__.annotations.compiler_flag
_PRIVATE = re.compile(r"\b__\w*[^\W_]_?\b")
_CODE_OF_DEF = (ast.FunctionDef, ast.AsyncFunctionDef)


class Text(NamedTuple):
    """A function's source, and what around it decides how it is compiled."""

    text: str | bytes  #: from its `def`, or a lambda in parentheses; compressed if it is bytes
    line: int  #: of its first line in the file, from 1
    file: str
    owner: str  #: the class that its private names belong to, "" if it has none
    flags: int  #: `from __future__ import annotations`
    free: tuple[str, ...]  #: variables around it, in the order of its closure
    qualname: str  #: what those of functions and classes inside it begin with


_arrived: dict[types.CodeType, Text] = {}


def text_of(code: types.CodeType) -> Text | None:
    """The source of a function's code; None if there is none that gives this code."""
    known = _arrived.get(code)
    return known if known is not None else _find(code, code.co_filename)


def compiled(source: Text) -> types.CodeType:
    """The code of a function.

    Raises:
        SyntaxError: this Python does not know the syntax.
        ValueError: what this Python makes of it needs other variables around it.
    """
    text = source.text
    if isinstance(text, bytes):
        text = zlib.decompress(text).decode()
    code = _compile(source._replace(text=text))
    if code.co_freevars != source.free:
        raise ValueError(f"it has the variables {code.co_freevars} around it, not {source.free}")
    if len(_arrived) >= _KEPT_TEXTS:
        _arrived.clear()
    _arrived[code] = source
    return code


def same_code(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether two codes do the same, wherever they stand."""
    return _bare(one) == _bare(other)


def _bare(code: types.CodeType) -> types.CodeType:
    """A code without what only says where it stands."""
    constants = tuple(
        _bare(constant) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(
        co_consts=constants,
        co_flags=code.co_flags & ~inspect.CO_NESTED,
        co_filename="",
        co_firstlineno=1,
        co_linetable=b"",
    )


# --- finding ----------------------------------------------------------------------------------


@lru_cache(maxsize=2048)
def _find(code: types.CodeType, file: str) -> Text | None:
    """By the file too: two files may hold the same code."""
    for attempt in range(2):
        try:
            lines = linecache.getlines(file)
            for text, line in _candidates(code, lines):
                owner = _owner(text, code)
                flags = code.co_flags & _FLAGS
                source = Text(text, line, file, owner, flags, code.co_freevars, _qualname(code))
                if any(
                    same_code(_compile(source, imported), code)
                    for imported in _imported("".join(lines), code)
                ):
                    return _compressed(source)
        except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
            pass  # the lines are not those that the code was made of
        if attempt == 0:
            linecache.checkcache(file)  # they may be those of an older version of the file
    return None


def _imported(text: str, code: types.CodeType) -> Iterator[list[str]]:
    """What the file may import of the names in a code.

    Since Python 3.11 calls of what the file imports itself are compiled in a way of their own.
    """
    yield []
    names = _names(code)
    for nested in (False, True):
        found = sorted(names & bound_by_imports(text, nested))
        if found:
            yield found


def _compressed(source: Text) -> Text:
    if len(source.text) < _COMPRESSED_FROM or not isinstance(source.text, str):
        return source
    return source._replace(text=zlib.compress(source.text.encode(), 6))


def _candidates(code: types.CodeType, lines: list[str]) -> Iterator[tuple[str, int]]:
    """Texts that may be a code's source, with their first line."""
    first = code.co_firstlineno
    if code.co_filename == "<string>" and code.co_names == ("_tuple_new",):
        names = code.co_varnames[1:]  # what namedtuple evaluates
        listed = "".join(f"{name}, " for name in names)
        yield f"(lambda _cls, {listed}: _tuple_new(_cls, ({listed})))", first
    if not 0 < first <= len(lines):
        return
    block = inspect.getblock(lines[first - 1 :])
    if code.co_name == "<lambda>":
        yield from _lambdas("".join(block), 1, first)
        text = "".join(lines)
        if len(text) <= _LARGEST_FILE:
            yield from _lambdas(text, first, first)
        return
    tree = _parse("".join(block))
    for node in ast.walk(tree):
        if isinstance(node, _CODE_OF_DEF) and node.name == code.co_name:
            begin, end = _shift(block), node.end_lineno or node.lineno
            text = "".join(block[node.lineno - 1 - begin : end - begin])
            yield text, first + node.lineno - 1 - begin
            return


def _lambdas(text: str, line: int, first: int) -> Iterator[tuple[str, int]]:
    try:
        found = _lambdas_of(text)
    except SyntaxError:
        return  # part of a statement: the file has all of it
    for at, segment in found:
        if at == line:
            yield f"({segment})", first


@lru_cache(maxsize=16)
def _lambdas_of(text: str) -> list[tuple[int, str]]:
    tree = _parse(text)
    shift = _shift([text])
    lines = text.splitlines(keepends=True)
    return [
        (node.lineno - shift, _segment(lines, node, shift))
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
    ]


def _segment(lines: list[str], node: ast.Lambda, shift: int) -> str:
    """The lines of an expression; its columns count bytes."""
    first, last = node.lineno - 1 - shift, (node.end_lineno or node.lineno) - 1 - shift
    own = [line.encode() for line in lines[first : last + 1]]
    own[-1] = own[-1][: node.end_col_offset]
    own[0] = own[0][node.col_offset :]
    return b"".join(own).decode()


def _owner(text: str, code: types.CodeType) -> str:
    """The class whose name was put before the private names of a text."""
    private = set(_PRIVATE.findall(text))
    if private:
        for name in sorted(_names(code)):
            for end in private:
                if name.startswith("_") and name.endswith(end) and len(name) > len(end) + 1:
                    return name[1 : -len(end)]
    return ""


def _qualname(code: types.CodeType) -> str:
    found: str | None = getattr(code, "co_qualname", None)  # Python 3.11
    if found is not None:
        return found
    for constant in _strings(code):
        before, inside, _ = constant.partition(f"{code.co_name}.<locals>.")
        if inside and (not before or before.endswith(".")):
            return before + code.co_name
    return code.co_name


def _strings(code: types.CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, types.CodeType):
            yield from _strings(constant)


def _names(code: types.CodeType) -> set[str]:
    names = {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
        elif isinstance(constant, tuple):  # names of keyword arguments
            names.update(name for name in constant if isinstance(name, str))
    return names


# --- compiling --------------------------------------------------------------------------------


def _shift(lines: list[str]) -> int:
    """How many lines `_parse` puts before the text."""
    return int(bool(lines) and lines[0][:1] in (" ", "\t"))


def _parse(text: str) -> ast.Module:
    """A block as it stands: taking its indentation away would change strings of several lines."""
    return ast.parse(f"if 1:\n{text}" if _shift([text]) else text)


def _compile(source: Text, imported: Sequence[str] = ()) -> types.CodeType:
    """Compile a function in the surroundings that its code was made in; nothing is run.

    Its free variables are parameters of a function around it. Defaults, annotations and
    decorators belong to what makes a function, not to its code: the packed state has them.
    """
    text = source.text
    assert isinstance(text, str)
    tree = _parse(text)
    statement: Any = tree.body[0]
    if isinstance(statement, ast.If):
        statement = statement.body[0]
    if isinstance(statement, _CODE_OF_DEF):
        fn: Any = statement
        fn.decorator_list, fn.returns = [], None
        if hasattr(fn, "type_params"):  # Python 3.12; those that are used are free variables
            fn.type_params = []
        name = fn.name
    else:
        fn, name = statement.value, ""
    _strip(fn.args)
    ast.increment_lineno(statement, source.line - 1 - _shift([text]))
    # A function that names itself must find what it would find there, not this one.
    is_global = bool(name) and not source.owner and name not in source.free
    around = ast.parse(
        f"def around({', '.join(source.free)}):\n"
        f" {f'global {name}' if is_global else 'pass'}\n"
        + (f" class {source.owner}:\n  pass\n" if source.owner else "")
    )
    if imported:
        around.body += ast.parse(f"import {', '.join(imported)}").body
    outer: Any = around.body[0]
    (outer.body[-1] if source.owner else outer).body.append(statement)
    code = compile(around, source.file, "exec", source.flags, dont_inherit=True)
    for _ in range(3 if source.owner else 2):
        code = next(value for value in code.co_consts if isinstance(value, types.CodeType))
    given = f"{source.owner}.{code.co_name}" if source.owner else code.co_name
    if not is_global:
        given = f"around.<locals>.{given}"
    return _renamed(code, given, source.qualname)


def _renamed(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """A code with its qualified name, and those inside it, as they were."""
    inside = f"{old}.<locals>."
    constants: list[Any] = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            constants.append(_renamed(constant, old, new))
        elif isinstance(constant, str) and constant.startswith(inside):
            constants.append(new + constant[len(old) :])
        else:
            constants.append(constant)
    options: dict[str, Any] = {}
    own = getattr(code, "co_qualname", "")  # Python 3.11
    if own == old or own.startswith(inside):
        options["co_qualname"] = new + own[len(old) :]
    return code.replace(co_consts=tuple(constants), **options)


def _strip(args: ast.arguments) -> None:
    """Leave the names of parameters alone."""
    args.defaults = []
    args.kw_defaults = [None] * len(args.kwonlyargs)
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None:
            arg.annotation = None
