"""The site file: what it may say, what is refused in it, and whose it must be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fxhpc.errors import ConfigError
from fxhpc.site import is_there
from fxhpc.site.reading import current, parse
from fxhpc.site.rules import limits_in_words, login_limit

FULL = """\
message: Down on Tuesday
contact: help@example.org
endpoints:
  max_workers_per_node: 8
  max_blocks: 4
  poll_interval: 1 min
login_nodes:
  hosts: [login*]
  max_workers: 0
"""


def test_what_it_says_is_known_with_its_lines() -> None:
    site = parse(FULL, "site.yaml")

    assert (site.message, site.endpoints.max_blocks) == ("Down on Tuesday", 4)
    assert site.endpoints.poll_s == 60.0
    assert site.where("endpoints.max_blocks") == "site.yaml:5"
    assert "site.yaml:9; ask help@example.org" in site.because("login_nodes.max_workers")
    assert ("endpoints.max_workers_per_node", "8") in limits_in_words(site)
    assert login_limit(site, ["login3.example.org", "login3"]) == 0
    assert login_limit(site, ["node7"]) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("endpoints:\n  max_blocs: 4\n", "s:2: endpoints.max_blocs: there is no such key"),
        ("endpoints:\n  max_blocks: many\n", "s:2: endpoints.max_blocks: Expected `int | null`"),
        ("endpoints:\n  max_blocks: 0\n", "s:2: endpoints.max_blocks"),
        ("message: a\nmessage: b\n", "s:2: message: stands there twice"),
        ("endpoints:\n  poll_interval: soon\n", "s:2: endpoints.poll_interval"),
        ("login_nodes:\n  max_workers: 2\n", "s:1: login_nodes: needs both"),
        ("lines: {}\n", "s:1: there is no key 'lines'"),
        ("a: [\n", "is no YAML"),
        ("- a\n", "is no mapping"),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "s")

    assert words in str(caught.value)
    assert "administrators" in str(caught.value)


def test_without_a_file_nothing_is_limited(tmp_path: Path) -> None:
    assert current(str(tmp_path / "no" / "site.yaml")) is None
    assert current("") is None  # what stops an endpoint asks so
    assert limits_in_words(parse("", "site.yaml")) == []


def test_a_file_that_others_could_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(FULL)
    path.chmod(0o644)
    real = os.fstat

    def owned_by(owner: int) -> None:
        def fstat(fd: int) -> os.stat_result:
            found = list(real(fd))
            found[4] = owner
            return os.stat_result(found)

        monkeypatch.setattr(os, "fstat", fstat)

    owned_by(0)
    assert current(str(path)) is not None
    path.chmod(0o664)
    with pytest.raises(ConfigError, match="chmod 644"):
        current(str(path))
    path.chmod(0o644)
    owned_by(1000)
    with pytest.raises(ConfigError, match="belongs to user 1000"):
        current(str(path))


def test_a_link_to_what_cannot_be_seen_allows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.symlink_to(tmp_path / "not mounted" / "site.yaml")
    assert is_there(os.fspath(path))
    with pytest.raises(ConfigError, match="does not see"):
        current(os.fspath(path))


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(ConfigError, match="too deep"):
        parse("message: " + "[" * 5000, "site.yaml")
