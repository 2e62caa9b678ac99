"""Homes and managers for the faults: each home is a directory of its own, left by its forwarder."""

from __future__ import annotations

from tests.process.conftest import client, home, interchange

__all__ = ["client", "home", "interchange"]
