"""YAML: every value knows its line, words stay words, and nothing ends in a traceback."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc.endpoint.configuration.yaml_file import parse, parse_file, show_path
from fxhpc.errors import ConfigError


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    return caught.value.problems


def test_values_know_their_lines() -> None:
    document = parse("a: 1\nb:\n  c:\n    - x\n    - y\n  d: {e: 2}\n", "f.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": 2}}}
    assert document.line_of(("b", "c", 1)) == 5
    assert document.line_of(("b", "d", "e")) == 6
    assert document.line_of(("b", "missing")) == 2  # the nearest above
    assert document.line_of(("missing",)) == 0


def test_words_are_not_taken_for_numbers_dates_or_booleans() -> None:
    text = (
        "a: on\nb: no\nc: 1:00:00\nd: 0123\ne: 2024-01-02\nf: 1.10\ng: 12\nh: false\ni: 0x10\nj: ~"
    )
    data = parse(text, "f.yaml").data
    assert [data[key] for key in "abcde"] == ["on", "no", "1:00:00", "0123", "2024-01-02"]
    assert data["f"] == 1.1
    assert data["f"].text == "1.10"
    assert [data[key] for key in "ghij"] == [12, False, 16, None]


def test_merge_keys_and_aliases() -> None:
    text = "base: &base {x: 1, y: 2}\nmine:\n  <<: *base\n  y: 3\nlist:\n  <<: [*base]\n"
    data = parse(text, "f.yaml").data
    assert data["mine"] == {"x": 1, "y": 3}
    assert data["list"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f.yaml: is empty"),
        ("  \n\n", "f.yaml: is empty"),
        ("# nothing\n", "f.yaml: holds comments alone"),
        ("- a\n- b\n", "f.yaml:1: is a list"),
        ("hello\n", "f.yaml:1: is one plain value"),
        ("a: 1\n\tb: 2\n", "f.yaml:2: a tab"),
        ("a:\n\t- b\n", "f.yaml:2: a tab"),
        ("a: 1\n b: 2\n", "f.yaml:2: is not YAML"),
        ("a: [1, 2\nb: 3\n", "is not YAML"),
        ("a: 'open\n", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second document"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: is there twice, on line 1 too"),
        ("e:\n  a: 1\n  a: 1\n", "f.yaml:3: e.a: is there twice"),
        ("a: *nowhere\n", "f.yaml:1: is not YAML: found undefined alias"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags such as"),
        ("a: !!python/name:os.system x\n", "tags such as"),
        ("a: !secret x\n", "tags such as '!secret'"),
        ("? [a, b]\n: c\n", "a key must be a plain word"),
        ("a: x\x00y\n", "is not a text file"),
        ("a: @x\n", "f.yaml:1: is not YAML"),
        ("[" * 5000, "f.yaml"),
        ("a: " + "[" * 100 + "]" * 100, "nested too deeply"),
        ("a: !!int x\n", "is not of the kind !!int"),
        ("<<: 3\n", "takes a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, words: str) -> None:
    found = problems(text)
    assert any(words in line for line in found), found
    assert all(line.startswith("f.yaml") for line in found)


def test_all_duplicates_are_told_at_once() -> None:
    assert len(problems("a: 1\na: 2\nb: 1\nb: 2\n")) == 2


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.monotonic()
    assert "aliases" in problems("\n".join(lines))[0]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a: {{ ACCOUNT }}\n", "ACCOUNT"),
        ("a: {{ ACCOUNT NAME }}  # mine\n", "ACCOUNT NAME"),
        ("a: 'x {{ account }}'\n", "account"),
        ("a: >\n  one {{ account }}\n  two\n", "account"),
    ],
)
def test_placeholders_are_found(text: str, name: str) -> None:
    assert parse(text, "f.yaml").placeholders == {("a",): name}


def test_other_braces_are_none() -> None:
    text = "a: docker ps --format '{{.Names}}'\nb: '{{ json . }}'\nc: {d: {e: 1}}\n"
    assert parse(text, "f.yaml").placeholders == {}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\xfe\n")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: 1\n" * 300_000)
    expected = [
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "is a directory"),
        (binary, "binary.yaml:2: is not UTF-8 text (byte 0xff)"),
        (large, "is larger than 1 MB"),
    ]
    for path, words in expected:
        with pytest.raises(ConfigError) as caught:
            parse_file(path)
        assert words in str(caught.value)


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse_file(path).data == {"a": 1}


def test_paths_as_people_write_them() -> None:
    assert show_path(("engine", "provider", "walltime")) == "engine.provider.walltime"
    assert show_path(("ports", 0)) == "ports[0]"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{},&*!|>'\"#%@`?\n\t {}<\x00\u2028é0.", max_size=60))
def test_no_text_ends_in_another_error(text: str) -> None:
    with suppress(ConfigError):
        parse(text, "f.yaml")
