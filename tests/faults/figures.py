"""What the tests of faults measure, one JSON line each; nothing is written unless it is asked for.

`FXHPC_FIGURES=FILE pytest -m "load or not load" tests/faults` collects what docs/reliability.md
tells.
"""

from __future__ import annotations

import json
import os


def record_figure(row: str, name: str, value: float, unit: str = "") -> None:
    """Note a figure of a row of the matrix, such as `("W1", "detection, median", 0.012, "s")`."""
    path = os.environ.get("FXHPC_FIGURES")
    if path:
        line = json.dumps({"row": row, "name": name, "value": round(value, 6), "unit": unit})
        with open(path, "a") as file:
            file.write(line + "\n")
