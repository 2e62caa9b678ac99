"""What all tests share: the checkout's place on the path, and signals as a terminal has them.

The checkout is the last entry of the path, so that tests find each other (`tests.model...`), while
what is tested is the fxhpc that was installed; the checkout's own if none was.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So started in the background, and inherited by whatever the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the same, by nohup
