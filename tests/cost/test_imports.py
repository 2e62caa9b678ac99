"""What each kind of process imports when it starts: bounds that a change for the worse runs into.

A start is little but imports. A module of ours takes a third of a millisecond, a dataclass nearly
one, a decoder of a link's messages one or two.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_COUNT = """
import dataclasses, json, sys
made = [0]
plain = dataclasses._process_class
def process(*arguments):
    made[0] += 1
    return plain(*arguments)
dataclasses._process_class = process
{imports}
from fxhpc.protocol import codec
codecs = [name for name, one in vars(codec).items() if isinstance(one, codec.Codec)]
print(json.dumps([sorted(sys.modules), made[0], codecs]))
"""

#: What takes 10 ms or more to import, or brings much; none of it is needed to run a function.
_HEAVY = {"asyncio", "click", "multiprocessing", "numpy", "parsl", "psutil", "pydantic", "rich"}
_HEAVY |= {"sqlite3", "yaml", "zmq", "logging.handlers", "fxhpc.cli", "fxhpc.endpoint"}
_HEAVY |= {"fxhpc.shell", "fxhpc.testing", "fxhpc.integrations"}

_CLIENT = "from fxhpc import FuncXClient; import fxhpc.client.connection.home"
_MANAGER = "import fxhpc.manager.__main__, fxhpc.manager.logs, fxhpc.manager.shell"
_WORKER = "import fxhpc.manager.seeds.seed, fxhpc.worker.loop, fxhpc.serialize"


# At most so many modules of ours, dataclasses, and decoders of links: a few more than there were.
# Packages count too, though all that is in them is a line of text.
@pytest.mark.parametrize(
    ("imports", "others", "modules", "dataclasses", "decoders"),
    [
        pytest.param(
            _CLIENT,
            {"dill", "fxhpc.forwarder.core", "fxhpc.interchange", "fxhpc.manager", "fxhpc.worker"},
            137,
            4,
            1,
            id="a client that attaches",
        ),
        pytest.param(
            _MANAGER,
            {"dill", "hashlib", "pickle", "fxhpc.client", "fxhpc.serialize", "fxhpc.worker"},
            90,
            1,
            1,
            id="a manager on the client's host",
        ),
        pytest.param(
            _WORKER,
            {"subprocess", "fxhpc.client", "fxhpc.forwarder", "fxhpc.manager.core"},
            80,
            3,
            0,
            id="what workers are forked of",
        ),
    ],
)
def test_what_is_imported(
    imports: str, others: set[str], modules: int, dataclasses: int, decoders: int
) -> None:
    command = [sys.executable, "-c", _COUNT.format(imports=imports)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    imported, made, codecs = json.loads(done.stdout)

    ours = [name for name in imported if name.startswith("fxhpc")]
    assert not (_HEAVY | others).intersection(imported)
    assert len(ours) <= modules, ours
    assert made <= dataclasses
    assert len(codecs) <= decoders, codecs
