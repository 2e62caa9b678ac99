"""What a worker wrote last, as users are shown it."""

from __future__ import annotations

from pathlib import Path

import fxhpc
from fxhpc.manager.stacks import before_end, users_part

OURS = Path(fxhpc.__file__).parent
STACK = f"""Current thread 0x00007f44d5249b80 (most recent call first):
  File "/home/ann/model.py", line 9 in inner
  File "/home/ann/model.py", line 10 in hang
  File "{OURS}/worker/calls.py", line 10 in _make
  File "{OURS}/worker/run.py", line 48 in call
  File "{OURS}/manager/seed.py", line 152 in _become_worker
  File "<frozen runpy>", line 88 in _run_code

Extension modules: msgspec._core (total: 1)
"""
THEIRS = """  File "/home/ann/model.py", line 9 in inner
  File "/home/ann/model.py", line 10 in hang"""


def test_of_what_was_ended_the_users_frames_are_left() -> None:
    text = f"step 1\nFatal Python error: Aborted\n\n{STACK}"
    shown = f"step 1\n\nWhere it was (most recent call first):\n{THEIRS}"
    assert users_part(text, ended=True) == shown


def test_what_crashed_says_so() -> None:
    shown = users_part(f"Fatal Python error: Segmentation fault\n\n{STACK}")
    assert shown.startswith("Fatal Python error: Segmentation fault\n\nCurrent thread 0x")
    assert shown.endswith(f"(most recent call first):\n{THEIRS}")


def test_other_threads_and_stacks_that_are_all_ours_stay() -> None:
    text = f"""Thread 0x01 (most recent call first):
  File "/home/ann/model.py", line 1 in watch

Current thread 0x02 (most recent call first):
  File "{OURS}/worker/run.py", line 48 in call
  File "{OURS}/worker/loop.py", line 157 in _run
"""
    shown = users_part(text)
    assert "line 1 in watch" in shown
    assert "worker/run.py" in shown


def test_what_has_no_stack_is_left_as_it_is() -> None:
    text = "a\r\n\n\n\x0bb\n  File odd\n"
    assert users_part(text) == text
    assert users_part(text, ended=True) == text


def test_what_a_task_printed_is_not_where_it_was_when_it_was_ended() -> None:
    dump = f"Fatal Python error: Aborted\n\n{STACK}".encode()
    assert before_end(b"err\n" + dump) == b"err\n"
    assert before_end(b"err" + dump) == b"err"
    assert before_end(dump + b"again" + dump) == dump + b"again"  # the user's own
    theirs = b"Fatal Python error: Aborted\n\nsaid the log"
    assert before_end(theirs) == theirs
