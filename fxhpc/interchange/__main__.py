"""`python -m fxhpc.interchange DIRECTORY FD`: the interchange of a named endpoint."""

from __future__ import annotations

import sys

from fxhpc.interchange.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
