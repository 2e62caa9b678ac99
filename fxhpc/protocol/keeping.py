"""The limits of a home's store as they are unless somebody sets them."""

from __future__ import annotations

#: Bytes that a store may hold: beyond, submissions are refused.
MAX_BYTES = 5 * 2**30

#: Seconds that outcomes are kept after the last task of a batch has ended, or was asked for.
RETENTION_S = 14 * 86400.0
