"""A worker in a process of its own: reads (digest, body, arguments) from stdin, writes outcomes."""

import os
import pickle
import struct
import sys

LIMIT = 5 * 1024 * 1024


def main() -> None:
    from fxhpc.serialize import Loader, build, pack_exception, pack_result

    pretended = os.environ.get("FXHPC_WORKER_VERSION")
    if pretended:  # byte code is then of another Python than this, in both directions
        build.python_version = lambda: pretended

    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a function prints does not mix with outcomes
    loader = Loader()
    while header := incoming.read(4):
        digest, body, data = pickle.loads(incoming.read(struct.unpack("<I", header)[0]))
        refreshed = loader.refresh()
        try:
            function = loader.load_function(digest, body)
            args, kwargs = loader.load_arguments(data)
            answer = ("value", pack_result(function(*args, **kwargs), LIMIT), refreshed)
        except BaseException as error:
            answer = ("error", pack_exception(error, LIMIT), refreshed)
        packed = pickle.dumps(answer)
        outgoing.write(struct.pack("<I", len(packed)) + packed)
        outgoing.flush()


if __name__ == "__main__":
    main()
