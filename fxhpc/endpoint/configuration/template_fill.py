"""Fills in one Jinja template, in a process of its own that has little time and little memory.

`python -m fxhpc.endpoint.configuration.template_fill`; a document with `text` and `values` comes on
standard input, what `Filled` has goes to standard output. A template may loop for hours and
multiply strings without end, and whoever reads a configuration is not to suffer from it.
"""

from __future__ import annotations

import json
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

#: Seconds of processor time, seconds in all, bytes of memory, characters that it may make.
_CPU_S, _LIMIT_S = 5, 60.0
_MEMORY = 2**30
_MAX_CHARACTERS = 2**20
#: Variables that Globus Compute fills in by itself. Here there is nobody whom they could describe.
RESERVED: dict[str, Any] = {
    "parent_config": {},
    "user_runtime": {},
    "mapped_identity": {},
    "_GC": {"user_runtime": {}, "parent_config": {}, "mapped_identity": {}},
}


@dataclass
class Filled:
    """What became of a template."""

    text: str = ""
    missing: list[str] = field(default_factory=list)  # variables that had no value
    variables: list[str] = field(default_factory=list)  # all that it has
    problem: str = ""  # what is wrong with it, if something is
    line: int = 0  # where, if that is known


def filled(text: str, values: Mapping[str, Any], environment: dict[str, str]) -> Filled:
    """Fill in a template.

    Strings that are given come out in quotes, as with Globus Compute: `account: {{ account }}`.

    Args:
        values: for its variables, plain values.
        environment: in which `python -m` finds fxhpc.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fxhpc.endpoint.configuration.template_fill"],
            input=json.dumps({"text": text, "values": values}, default=str).encode(),
            capture_output=True,
            env=environment,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Filled(problem=f"the template is not filled in after {_LIMIT_S:.0f} s")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Filled(problem=f"the template takes more than {_CPU_S} s of processor time")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return Filled(problem=f"the template fails: {lines[-1] if lines else done.returncode}")
    return Filled(**json.loads(done.stdout))


def main() -> int:
    """Fill in the template that comes on standard input."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    found = _fill(asked["text"], asked["values"])
    sys.stdout.write(json.dumps(asdict(found)))
    return 0


def _fill(text: str, values: dict[str, Any]) -> Filled:
    import jinja2
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    missing: dict[str, None] = {}
    environment = ImmutableSandboxedEnvironment(
        undefined=_noting(missing), keep_trailing_newline=True, finalize=_quoted
    )
    environment.filters["shell_escape"] = _shell_escape
    found = Filled()
    given = {name: _given(value) for name, value in values.items()}
    try:
        found.variables = sorted(meta.find_undeclared_variables(environment.parse(text)))
        size, parts = 0, []
        for part in environment.from_string(text).generate({**RESERVED, **given}):
            size += len(part)
            if size > _MAX_CHARACTERS:
                return Filled(problem="the template makes more than 1 MB of text")
            parts.append(part)
        found.text = "".join(parts)
    except jinja2.TemplateSyntaxError as error:
        return Filled(problem=f"is not a template: {error.message}", line=error.lineno)
    except RecursionError:
        return Filled(problem="the template is nested too deeply")
    except MemoryError:
        return Filled(problem=f"the template takes more than {_MEMORY // 2**30} GB of memory")
    except Exception as error:  # whatever the template does
        return Filled(problem=f"the template fails: {error or type(error).__name__}")
    found.missing = list(missing)
    return found


def _noting(missing: dict[str, None]) -> type[jinja2.Undefined]:
    """What stands for variables without a value: notes their names, so that all are told."""
    import jinja2

    class Missing(jinja2.ChainableUndefined):
        __slots__ = ()

        def _note(self) -> None:
            missing[self._undefined_name or "?"] = None

        def __str__(self) -> str:
            self._note()
            return ""

        def __iter__(self) -> Any:
            self._note()
            return iter(())

        def __bool__(self) -> bool:
            self._note()
            return False

    return Missing


class _GivenText(str):
    """A string that a user gave for a variable."""


def _given(value: Any) -> Any:
    if isinstance(value, str):
        return _GivenText(value)
    if isinstance(value, dict):
        return {name: _given(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_given(item) for item in value]
    return value


def _quoted(value: Any) -> Any:
    """What is given comes out as YAML, which JSON is, so that no value can add keys."""
    if isinstance(value, _GivenText):
        return json.dumps(str(value))
    if value is None:
        return "null"
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value)
    return value


def _shell_escape(value: Any) -> Any:
    """Globus Compute's filter for text that goes into a shell script."""
    return _GivenText(shlex.quote(value)) if isinstance(value, str) else value


if __name__ == "__main__":
    sys.exit(main())
