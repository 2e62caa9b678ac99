"""Futures of tasks that are stored already, whoever submitted them: a group's, or some by name."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Iterable
from typing import Any

from fxhpc.client.futures.elements import ChunkFuture, element_futures
from fxhpc.client.futures.futures import TaskFuture
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.client.sending.submitter import Submitter
from fxhpc.client.task_group import streams_of
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.service import StreamSummary


def futures_of(submitter: Submitter, info: StreamInfo, indices: Iterable[int]) -> list[TaskFuture]:
    """The futures of tasks of a stream that is kept. What becomes of them is asked for.

    Those that have one already, which has not ended, have no other.
    """
    submitter.attachment()
    kind = ChunkFuture if info.calls else TaskFuture
    found = []
    with submitter.lock:
        group = submitter.groups.reload(info)
        for index in indices:
            future = group.futures.get(index)
            if future is None:
                future = kind(group, index)
                group.reload(future)
            found.append(future)
    submitter.follow()
    return found


def futures_of_group(submitter: Submitter, group: str) -> list[cf.Future[Any]]:
    """A future for each task of a group, and for each call of its chunks.

    Raises:
        TaskGroupNotFound: nobody knows it.
    """
    found: list[cf.Future[Any]] = []
    parts = list(streams_of(submitter.attachment().connection.ask, group))
    for part in sorted(parts, key=lambda part: part.summary.created):
        info = _info(part.summary)
        futures = futures_of(submitter, info, range(part.count))
        if not info.calls:
            found += futures
            continue
        sizes = ChunkSizes(info.stream, info.sizes)
        for index, future in enumerate(futures):
            assert isinstance(future, ChunkFuture)
            found += element_futures(future, sizes[index])
    return found


def _info(summary: StreamSummary) -> StreamInfo:
    return StreamInfo(
        stream=summary.stream,
        endpoint=summary.endpoint,
        function=b"",
        function_id=summary.function_id,
        keep=True,
        group=summary.group,
        created=summary.created,
        calls=summary.calls,
        sizes=summary.sizes,
    )
