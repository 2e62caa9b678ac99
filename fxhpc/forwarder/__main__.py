"""`python -m fxhpc.forwarder HOME FD`: the forwarder of a home. Says on FD how its start went."""

from __future__ import annotations

import sys

from fxhpc.forwarder.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
