"""Whoever leads a store to its newest version may be killed: it is the old one then, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fxhpc.errors import StoreTooNew
from fxhpc.forwarder.store.operations import AddStream, AddSubmission
from fxhpc.forwarder.store.schema import MIGRATIONS
from fxhpc.forwarder.store.store import Store
from fxhpc.ids import new_id, new_stream
from fxhpc.protocol.messages import StreamInfo

#: A step that takes some thousand looks of SQLite at whether it is to go on.
STEP = """
    CREATE TABLE extra (number INTEGER PRIMARY KEY, text TEXT);
    WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 20000)
    INSERT INTO extra SELECT n, "some text" FROM counter;
    ALTER TABLE stream ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';
"""

#: Migrates a store, once for each of its moments, in a child that is killed then.
SCRIPT = """
import os, sqlite3, sys
from fxhpc.forwarder.store.schema import MIGRATIONS
from fxhpc.forwarder.store.store import Store

connect, replace = sqlite3.connect, os.replace

def die(*arguments):
    os.kill(os.getpid(), 9)

def dying(*arguments, **options):
    connection = connect(*arguments, **options)
    left = [int(moment)]
    def look():
        left[0] -= 1
        if left[0] < 0:
            die()
    connection.set_progress_handler(look, 100)
    return connection

for path, moment in zip(sys.argv[2::2], sys.argv[3::2]):
    child = os.fork()
    if child == 0:
        if moment == "copied":
            os.replace = die
        else:
            sqlite3.connect = dying
        Store(path, migrations=[*MIGRATIONS, sys.argv[1]])
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""

#: Before the copy has its name, and after so many looks in the migration itself.
MOMENTS = ("copied", "200", "1000", "2000")


@pytest.fixture
def info() -> StreamInfo:
    return StreamInfo(new_stream(), new_id(), bytes(32), group=new_id())


def test_a_migration_that_is_killed_leaves_the_store_as_it_was(
    tmp_path: Path, info: StreamInfo
) -> None:
    paths = [str(tmp_path / f"store-{moment}.db") for moment in MOMENTS]
    for path in paths:
        store = Store(path)
        store.apply([AddStream(info, b"me"), AddSubmission(1, info.stream, 0, [b"a"])])
        store.close()
    places = [word for pair in zip(paths, MOMENTS, strict=True) for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, STEP, *places], capture_output=True, text=True, check=True
    )
    assert [os.WTERMSIG(int(status)) for status in done.stdout.split()] == [signal.SIGKILL] * 4
    for path in paths:
        old = Store(path)  # by a version that knows nothing of the step
        assert old.recover().streams == [(info, b"me")]
        old.close()
        new = Store(path, migrations=[*MIGRATIONS, STEP])
        assert new.recover().streams == [(info, b"me")]
        assert f"{path}.v{len(MIGRATIONS)}.bak" in new.notices[0]
        new.close()
        with pytest.raises(StoreTooNew):
            Store(path)
        copy = f"{path}.v{len(MIGRATIONS)}.bak"
        os.rename(copy, f"{path}.old")
        old = Store(f"{path}.old")
        assert old.recover().streams == [(info, b"me")]
        old.close()
