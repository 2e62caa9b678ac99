"""Which protocol two versions speak with each other."""

from __future__ import annotations

import pytest

from fxhpc.protocol import versions
from fxhpc.protocol.versions import common_protocol


@pytest.mark.parametrize(
    ("newest", "oldest", "common"),
    [
        (5, 4, 5),  # the same version
        (4, 3, 4),  # the one before
        (6, 5, 5),  # the one after
        (4, 4, 4),
        (9, 2, 5),
        (3, 1, None),  # two before: it speaks nothing that is understood
        (7, 6, None),  # two after: it understands nothing that is spoken
    ],
)
def test_neighbours_speak_the_older_ones_protocol(
    newest: int, oldest: int, common: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PROTOCOL", 5)
    monkeypatch.setattr(versions, "OLDEST_PROTOCOL", 4)
    assert common_protocol(newest, oldest) == common
