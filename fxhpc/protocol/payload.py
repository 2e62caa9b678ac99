"""What a payload is, and the numbers of tasks: what messages are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

#: A task's number in its stream. Checked where a message is decoded.
Index = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]

#: first, count, first, count, ...: see `fxhpc.ids.to_ranges`. The codec checks the rest.
Ranges = list[Annotated[int, msgspec.Meta(ge=0, le=2**32)]]

#: How many labels there may be, and characters of each; and characters of metadata.
MOST_LABELS = 16
MOST_LABEL = 100
MOST_METADATA = 4096

#: Labels of tasks, or of a node.
Labels = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=MOST_LABEL)], ...],
    msgspec.Meta(max_length=MOST_LABELS),
]

#: What a user notes of tasks, as JSON.
Metadata = Annotated[str, msgspec.Meta(max_length=MOST_METADATA)]

#: Characters of an idempotency key, and such a key.
MOST_KEY = 200
Key = Annotated[str, msgspec.Meta(max_length=MOST_KEY)]

if TYPE_CHECKING:
    Payload = bytes
else:
    # On the wire a large payload is the number of the frame that holds it: `codec` puts the
    # number in and takes it out again, so that no other code ever meets one.
    Payload = bytes | int
