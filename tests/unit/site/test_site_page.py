"""The example of docs/site.md is a site file."""

from __future__ import annotations

from pathlib import Path

from fxhpc.site.reading import parse
from fxhpc.site.rules import limits_in_words

_PAGE = Path(__file__).parents[3] / "docs" / "site.md"


def test_the_pages_example_is_one() -> None:
    text = _PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]

    site = parse(text, "docs/site.md")

    assert len(limits_in_words(site)) == 7
    assert site.message
    assert site.contact
