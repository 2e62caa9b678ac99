"""What the administrators of this host have set."""

from __future__ import annotations

from collections.abc import Iterator

from fxhpc.endpoint.check import OK, PROBLEM, Finding
from fxhpc.errors import ConfigError
from fxhpc.site import SITE_FILE
from fxhpc.site.reading import current
from fxhpc.site.rules import limits_in_words


def look(path: str = SITE_FILE) -> Iterator[Finding]:
    """Look at the site file."""
    try:
        site = current(path)
    except ConfigError as error:
        yield Finding(PROBLEM, "site file", str(error))
        return
    if site is None:
        yield Finding(OK, "site file", f"there is no {path}: nothing is limited")
        return
    if site.message:
        yield Finding(OK, "site", site.message)
    for key, value in limits_in_words(site):
        yield Finding(OK, "site limit", f"{key}: {value} ({site.where(key)})")
