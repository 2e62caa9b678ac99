"""Homes for the tests of what other users and strangers find."""

from __future__ import annotations

from tests.process.conftest import client, home

__all__ = ["client", "home"]
