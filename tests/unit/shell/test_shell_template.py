"""Commands are templates that keywords fill in; what cannot be meant so is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc import errors
from fxhpc.shell.template import MissingKeyword, filled, keywords_of


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("date", []),
        ("", []),
        ("cp {source} {target}; ls {source}", ["source", "target"]),
        ("echo {point.x} {rows[0]} {name!r:>10} {number:{width}.3f}", None),
        ("find . -exec ls {{}} \\; | awk '{{print $1}}'; echo ${{HOME}}", []),
        ("prog --in {input-file} {größe}", ["input-file", "größe"]),
    ],
)
def test_the_keywords_of_a_command(template: str, names: list[str] | None) -> None:
    wanted = ["point", "rows", "name", "number", "width"] if names is None else names
    assert keywords_of(template) == wanted


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("find . -exec ls {} \\;", r"\{\} stands for a positional argument.*\{\{ and \}\}"),
        ("echo {0}", r"\{0\} stands for a positional argument"),
        ("echo {.x}", "positional argument"),
        ("echo {x:{}}", "positional argument"),
        ("awk '{print $1}' file", r"\{print \$1\} is not the name of a keyword.*\{\{ and \}\}"),
        ("f() { echo }", "not the name of a keyword"),
        ("echo }", "Single '}'.*written twice"),
        ("echo {", "written twice"),
        ("echo {x", "written twice"),
        (b"date", "it is the text of a command line, not bytes"),
        (["ls", "-l"], r"not list.*shlex\.join"),
    ],
)
def test_what_is_no_template(template: Any, told: str) -> None:
    with pytest.raises(errors.UsageError, match=f"(?s){told}"):
        keywords_of(template)


def test_it_is_filled_in_as_format_does() -> None:
    assert filled("a {x} {y[1]:03d} {{}}", {"x": "b c", "y": [0, 7], "z": 1}) == "a b c 007 {}"
    assert filled("{self} {template}", {"self": 1, "template": 2}) == "1 2"
    assert filled("{input-file}", {"input-file": "a"}) == "a"


def test_a_value_with_a_nul_character_is_refused() -> None:
    with pytest.raises(errors.UsageError, match=r"echo \{x\}.*NUL character"):
        filled("echo {x}", {"x": "a\0b"})


def test_a_missing_keyword_is_named() -> None:
    with pytest.raises(KeyError) as raised:
        filled("cp {source} {target}", {"target": 1, "force": True})
    assert type(raised.value) is MissingKeyword
    assert str(raised.value) == (
        "The command 'cp {source} {target}' was called without source=, and with target=, force=. "
        "Give a value for each of its fields."
    )


def test_a_variable_of_the_shell_is_guessed() -> None:
    with pytest.raises(MissingKeyword, match=r"with no keywords.*is written \$\{\{HOME\}\}"):
        filled("ls ${HOME}", {})


def test_a_value_that_cannot_be_formatted() -> None:
    with pytest.raises(ValueError, match="format code"):
        filled("{x:d}", {"x": "text"})
