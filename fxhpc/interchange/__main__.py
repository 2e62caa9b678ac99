"""`python -m fxhpc.interchange DIRECTORY FD`: the interchange of a named endpoint."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import os
import resource
import sys

import msgspec
import zmq

from fxhpc.errors import FxhpcError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.process import InterchangeProcess
from fxhpc.printable import make_logs_safe
from fxhpc.protocol.provision import InterchangeSpec

#: When garbage is looked for: seldom. Nothing here goes round in circles, and to look through what
#: is known of a hundred thousand tasks stops the interchange for a quarter of a second.
_COLLECT = (100_000, 50, 100)

log = logging.getLogger("fxhpc.interchange")


def main(arguments: list[str]) -> int:
    """Run the interchange of an endpoint.

    Args:
        arguments: the endpoint's directory; a descriptor where it says "ready", or why it cannot
            start. An `InterchangeSpec` comes on standard input.
    """
    report = int(arguments[1])
    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=InterchangeSpec)
    directory = EndpointDirectory(arguments[0], spec.state_dir)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
    _log_to(spec)
    try:
        process = InterchangeProcess(directory, spec)
    except (FxhpcError, OSError, zmq.ZMQError, ValueError) as error:
        log.error("cannot start: %s", error)
        _report(report, str(error))
        return 1
    _report(report, "ready")
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    try:
        process.run()
    except BaseException as error:
        log.exception("ends by an error")
        process.note_failure(error)
        raise
    finally:
        process.close()
    return 0


def _log_to(spec: InterchangeSpec) -> None:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if spec.log_file:
        handler = logging.handlers.RotatingFileHandler(
            spec.log_file,
            maxBytes=spec.log_bytes,
            backupCount=max(1, spec.log_files - 1),
            encoding="utf-8",
        )
    logging.basicConfig(
        handlers=[handler], format="%(asctime)s %(process)d %(levelname)s %(message)s", level="INFO"
    )
    make_logs_safe()


def _report(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode())
        os.close(descriptor)
    except OSError:
        pass  # whoever started this process does not wait any more


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
