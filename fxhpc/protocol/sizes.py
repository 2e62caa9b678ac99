"""How large arguments and results of an endpoint's tasks may be: its own limits, and who tells."""

from __future__ import annotations

import msgspec

#: No limit is smaller, so that nobody has to look at what is not larger.
LEAST_LIMIT = 4096

#: What a chunk of one call may have beyond the limit of a call: what packs the two differs.
CHUNK_BYTES = 128


class SizeLimits(msgspec.Struct, frozen=True):
    """What an endpoint's configuration says of sizes, beside what each submitter says."""

    argument: int = 0  # bytes of a task's packed arguments; 0: as the submitter says
    result: int = 0  # likewise
    spill: bool = False  # what is larger is no error, but is stored apart, or goes to a file


class EndpointLimits(msgspec.Struct, array_like=True, frozen=True):
    """The limits of one endpoint, as clients are told them."""

    endpoint: str  # its UUID
    name: str  # as people call it
    limits: SizeLimits
