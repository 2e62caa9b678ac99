"""What the tests of a manager's core share."""

from __future__ import annotations

import pytest
from simulation import Node

from fxhpc.protocol import messages as msg


@pytest.fixture
def node() -> Node:
    """A manager that has the function of its tasks."""
    node = Node()
    node.say(msg.Body(b"f", b"body"))
    return node
