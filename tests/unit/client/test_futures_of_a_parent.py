"""A forked child: its parent's futures do not end there, and nobody waits for them."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor
from fxhpc.client.futures import futures
from fxhpc.client.futures.conditions import Condition

_WAITS: dict[str, Callable[[cf.Future[Any]], object]] = {
    "result": lambda future: future.result(10),
    "exception": lambda future: future.exception(10),
    "wait": lambda future: cf.wait([future], 10),
    "as_completed": lambda future: list(cf.as_completed([future], 10)),
    "callback": lambda future: future.add_done_callback(print),
    "asyncio": lambda future: asyncio.run(_awaited(future)),
}


async def _awaited(future: Any) -> None:
    await future


@pytest.mark.parametrize("is_element", [False, True])
def test_what_has_not_ended_is_neither_waited_for_nor_cancelled(
    forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch, is_element: bool
) -> None:
    with Executor(1, endpoint_id="local") as executor:
        future: cf.Future[Any] = executor.submit(abs, 1)
        if is_element:
            future = executor.map(abs, [1, 2], chunksize=2).futures[0]
        with monkeypatch.context() as child:
            child.setattr(futures, "_here", [os.getpid() + 1])
            for wait in _WAITS.values():
                with pytest.raises(
                    RuntimeError, match=f"belongs to the parent process {os.getpid()}"
                ):
                    wait(future)
            assert not future.cancel()
        assert not future.done()
        executor.shutdown(wait=False, cancel_futures=True)


def test_what_was_held_at_the_fork_is_free_but_for_who_forked() -> None:
    condition = Condition(threading.RLock())
    holder = threading.Thread(target=condition.acquire)
    holder.start()
    holder.join()  # as a thread that the child has not
    assert not condition.acquire(blocking=False)
    condition.renew()
    with condition:
        condition.renew()  # of a signal's handler that forks: its thread is inside, and comes out
