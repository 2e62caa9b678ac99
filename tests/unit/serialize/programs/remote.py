"""A client of one worker child: packs, sends, and unpacks, and shares nothing with it."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from typing import Any

from fxhpc.serialize import pack_arguments, pack_function, unpack_exception, unpack_result

LIMIT = 5 * 1024 * 1024
CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker_child.py")


class Remote:
    """One worker child; `same_path` gives it this process's sys.path, as `local` does."""

    def __init__(self, same_path: bool = True, cwd: str | None = None) -> None:
        environment = dict(os.environ)
        fxhpc_root = environment["FXHPC_ROOT"]
        paths = [fxhpc_root, *(filter(None, sys.path) if same_path else ())]
        other = environment.get("FXHPC_WORKER_PYTHON")
        if other:  # it has a standard library of its own
            paths = [path for path in paths if not path.startswith((sys.prefix, sys.base_prefix))]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        self.process = subprocess.Popen(
            [other or sys.executable, CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=cwd,
        )
        self.refreshed = False

    def send(self, digest: bytes, body: bytes | None, data: bytes) -> tuple[str, bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        message = pickle.dumps((digest, body, data))
        self.process.stdin.write(struct.pack("<I", len(message)) + message)
        self.process.stdin.flush()
        header = self.process.stdout.read(4)
        size = struct.unpack("<I", header)[0]
        kind, answer, self.refreshed = pickle.loads(self.process.stdout.read(size))
        return kind, answer

    def call(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        packed = pack_function(fn)
        return self.again(packed.digest, packed.body, *args, **kwargs)

    def again(self, digest: bytes, body: bytes | None, *args: Any, **kwargs: Any) -> Any:
        kind, data = self.send(digest, body, pack_arguments(args, kwargs, LIMIT))
        if kind == "error":
            unpack_exception(data).reraise()
        return unpack_result(data)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
