"""The scripts that start a container, and what runs in it: written where that will see them.

`container.sh` knows what each runtime wants to be told. It is used by who starts managers on nodes,
and by managers that start workers of functions.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

#: What starts the container; and what runs in it, a manager or a seed.
START, MANAGER, SEED = "container.sh", "manager.sh", "seed.sh"


class Start(msgspec.Struct, kw_only=True, frozen=True):
    """What `container.sh` is told."""

    kind: str  # the command; or "custom"
    image: str
    words: str  # what errors call it
    who: str  # is to be in it
    named_kind: str  # by which option or call its kind was named
    named_image: str  # likewise its image
    script: str  # of `folder`: what runs in it
    folder: str  # where the scripts lie; it sees this, at the same place
    options: str = ""  # words for a shell; of a custom one the whole command
    made: Sequence[str] = ()  # directories that it sees at the same places; these are made
    seen: Sequence[str] = ()  # likewise; only if they are there
    home: str = ""  # the user's home directory; empty: none


def start_script(start: Start) -> str:
    """The text of `container.sh` for this container."""
    return script(
        START,
        {
            "kind": start.kind,
            "image": start.image,
            "inside": start.words,
            "who": start.who,
            "named_kind": start.named_kind,
            "named_image": start.named_image,
            "script": start.script,
            "options": start.options,
            "made": "\n".join(start.made),
            "seen": "\n".join(start.seen),
            "home": start.home,
            "blocks": start.folder,
        },
    )


def script(name: str, values: Mapping[str, str], beside: str = __file__) -> str:
    """The text of a script, behind lines that set variables.

    Args:
        name: of the file; it lies beside `beside`.
    """
    lines = ["#!/bin/sh", *(f"{name}={shlex.quote(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n" + Path(beside).with_name(name).read_text()


def places(wanted: Sequence[str], but: Collection[str] = ()) -> Iterator[str]:
    """Directories without those that lie in others; parents first, as they must be mounted."""
    known = list(but)
    for place in sorted(set(wanted), key=lambda place: (len(place), place)):
        if place not in ("", "/") and not any(Path(place).is_relative_to(one) for one in known):
            known.append(place)
            yield place


def unfit_place(wanted: Sequence[str]) -> str:
    """One of these directories that no runtime can be told of, because of its name; or nothing."""
    return next((place for place in wanted if set(place) & set(":,\n")), "")
