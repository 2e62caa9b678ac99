"""What a payload is: opaque bytes, from the client to the worker and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Payload = bytes
else:
    # On the wire a large payload is the number of the frame that holds it: `codec` puts the
    # number in and takes it out again, so that no other code ever meets one.
    Payload = bytes | int
