"""`python -m fxhpc.endpoint.provisioner FD PID`: the provisioner of an interchange."""

from __future__ import annotations

import sys

from fxhpc.endpoint.provisioner.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
