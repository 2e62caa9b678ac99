"""Where tests find each other: `tests.model...` is below the checkout, the last entry of the path.

Last, so that what is tested is the fxhpc that was installed; the checkout's own if none was.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
