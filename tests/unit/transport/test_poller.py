"""The poller: what can be read, and for how long it looks before it sleeps."""

from __future__ import annotations

import os
import threading

from fxhpc.transport.poller import Poller


def test_it_stays_awake_and_then_sleeps() -> None:
    reader, writer = os.pipe()
    poller = Poller()
    poller.register(reader)
    assert poller.poll(0.0, 0.01) == set()
    assert poller.poll(0.001, 0.0005) == set()
    assert poller.poll(0.001, 10.0) == set()  # never longer than it may wait at all
    thread = threading.Timer(0.02, os.write, (writer, b"x"))
    thread.start()
    assert poller.poll(10.0, 0.001) == {reader}  # it came while it slept
    assert poller.poll(10.0, 0.001) == {reader}  # it is there
    thread.join()
    os.read(reader, 1)
    thread = threading.Timer(0.005, os.write, (writer, b"x"))
    thread.start()
    assert poller.poll(10.0, 5.0) == {reader}  # it came while it was awake
    thread.join()
    for fd in (reader, writer):
        os.close(fd)
