"""Networks of namespaces for all tests here, and endpoints whose managers are nodes in them.

These tests need root. For anybody else they are not collected, and the first lines of pytest's
report say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.network.scattered_endpoint import ScatteredEndpoint
from tests.process.conftest import client, home
from tests.process.homes import TestHome

__all__ = ["client", "home"]

_IS_ROOT = os.getuid() == 0

collect_ignore_glob = [] if _IS_ROOT else ["test_*.py"]


def pytest_report_header() -> str:
    """What these tests do on this machine."""
    if _IS_ROOT:
        return "tests/network: nodes in network namespaces, which are cut off and come back"
    return "tests/network: NOT RUN, since they need root (iproute2, nftables)"


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[ScatteredEndpoint]:
    """An endpoint with two nodes that is not started yet."""
    endpoint = ScatteredEndpoint(home.path, nodes=2)
    yield endpoint
    endpoint.stop()
