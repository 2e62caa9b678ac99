"""The functions of the state machine's tasks."""

from __future__ import annotations

import hashlib

BODY = b"a function"
DIGEST = hashlib.sha256(BODY).digest()
UNKNOWN_DIGEST = hashlib.sha256(b"what nobody ever stored").digest()
