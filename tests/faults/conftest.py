"""Homes for the faults: each is a directory of its own, with a forwarder that leaves soon."""

from __future__ import annotations

from tests.process.conftest import client, home

__all__ = ["client", "home"]
