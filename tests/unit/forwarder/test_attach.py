"""Starting forwarders: what they leave in the process that started them, and in its errors."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from fxhpc import errors
from fxhpc.forwarder import attach


def test_a_forwarder_that_has_ended_stays_no_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.returncode = 0  # as `attach` leaves it
    # Forwarders of other tests may still be there. The second: no child of this process.
    monkeypatch.setattr(attach, "_children", {child.pid, 1})
    attach._bury_children()
    assert not attach._children
    assert not Path(f"/proc/{child.pid}").exists()


def test_one_that_lives_is_not_waited_for() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        attach._children.add(child.pid)
        try:
            thread = threading.Thread(target=attach._bury_children)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            assert child.pid in attach._children
        finally:
            attach._children.discard(child.pid)


def test_last_words(tmp_path: Path) -> None:
    assert attach.last_words(tmp_path).endswith("forwarder.log says nothing")
    (tmp_path / "forwarder.log").write_text("started\nthe disk is full\n")
    said = attach.last_words(tmp_path)
    assert said.endswith("forwarder.log says last: the disk is full")
    error = errors.ForwarderUnreachable(str(tmp_path), f"it dies as it starts; {said}.")
    assert str(error).count("forwarder.log") == 1
    assert str(error).endswith("the disk is full.")
