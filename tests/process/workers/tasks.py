"""What the manager's tests have workers do."""

from __future__ import annotations

import ast
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any


def double(value: int) -> int:
    return 2 * value


def imported(names: list[str]) -> list[str]:
    """Which of these modules were there before the task."""
    return [name for name in names if name in sys.modules]


def pid(*_: Any) -> int:
    return os.getpid()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def leave(code: int) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


def exit_at_once(code: int) -> None:
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def unpicklable() -> Any:
    return (value for value in range(3))


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_two() -> None:
    raise TwoArguments(1, 2)


def echo(data: bytes) -> bytes:
    return data


def fork() -> str:
    return "child" if os.fork() == 0 else "parent"


def fork_and_raise() -> str:
    if os.fork() == 0:
        raise RuntimeError("the child")
    return "parent"


def spoil(directory: str) -> None:
    os.chdir(directory)
    os.environ["FXHPC_SPOILED"] = "1"
    os.environ.pop("HOME", None)
    os.umask(0o777)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1)


def state() -> tuple[Any, ...]:
    umask = os.umask(0)
    os.umask(umask)
    return (
        os.getcwd(),
        "FXHPC_SPOILED" in os.environ,
        "HOME" in os.environ,
        umask,
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        signal.getsignal(signal.SIGALRM) is signal.SIG_DFL,
        signal.getitimer(signal.ITIMER_REAL)[0] == 0,
    )


def leave_daemon(path: str, seconds: float) -> None:
    """Start a process that nobody's group or session leads to, tell its pid, and go on for long."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, stdin=subprocess.DEVNULL)
    while not os.path.exists(path):
        time.sleep(0.01)
    time.sleep(seconds)


def close_streams() -> None:
    os.closerange(0, 3)


def write_to_sockets() -> None:
    """Write to all sockets of the process what is no message."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), b"nonsense" * 8)
        except OSError:
            pass


def flood(size: int) -> int:
    block = b"x" * 65536
    written = 0
    while written < size:
        written += os.write(2, block)
    return written


def say_and_crash() -> None:
    print("the last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGABRT)


def speak(text: str) -> int:
    """Print in all the ways that there are."""
    print(f"python {text}")
    print(f"python error {text}", file=sys.stderr)
    ctypes.CDLL(None).puts(f"compiled {text}".encode())
    subprocess.run(["sh", "-c", f"echo child {text}; echo child error {text} >&2"], check=True)
    os.write(2, b"raw\n")
    return len(text)


def speak_and_hang(text: str) -> None:
    speak(text)
    ctypes.CDLL(None).fflush(None)
    time.sleep(1000)


def print_much(size: int, result: int) -> bytes:
    block = "x" * 1023 + "\n"
    for _ in range(size // len(block)):
        sys.stdout.write(block)
    print("the end")
    return b"r" * result


def print_and_raise() -> None:
    print("before the error")
    raise ValueError("it went wrong")


def print_and_close() -> None:
    print("before it is closed")
    sys.stdout.flush()
    os.closerange(0, 3)


def surroundings(*names: str) -> dict[str, str | None]:
    """Variables, as a child process finds them."""
    code = "import os, sys; print([os.environ.get(name) for name in sys.argv[1:]])"
    out = subprocess.run(
        [sys.executable, "-c", code, *names], check=True, capture_output=True, text=True
    ).stdout
    found: list[str | None] = ast.literal_eval(out)
    assert found == [os.environ.get(name) for name in names]
    return dict(zip(names, found, strict=True))


def bound() -> tuple[str, list[int], str]:
    time.sleep(0.2)  # so that each worker gets one
    rank = os.environ["PARSL_WORKER_RANK"]
    return rank, sorted(os.sched_getaffinity(0)), os.environ.get("CUDA_VISIBLE_DEVICES", "")


def modules() -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules})


def write_file(name: str) -> str:
    with open(name, "w") as file:
        file.write("kept")
    return os.getcwd()


def core_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_CORE)[0]


def close_all() -> None:
    os.closerange(3, 1024)


def note_and_hold(folder: str) -> tuple[int, float]:
    """The first time: leave the pid, and hold on. The second time: when that begins."""
    began = time.monotonic()
    if before := os.listdir(folder):
        return int(before[0]), began
    with open(os.path.join(folder, str(os.getpid())), "x"):
        pass
    time.sleep(1000)
    return 0, began


def spin() -> None:
    while True:
        pass


def hang_in_compiled_code() -> None:
    # PyDLL keeps the interpreter's lock: no thread and no signal handler of Python ever runs.
    ctypes.PyDLL(None).sleep(1000)


def hang_deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGABRT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spin()


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def crash_deep(depth: int) -> None:
    if depth:
        crash_deep(depth - 1)
    else:
        crash()


def fill(megabytes: int, each: int = 0, children: int = 0) -> int:
    """Use memory, a megabyte in a millisecond, and have children use some at once."""
    kept = []
    while len(kept) < megabytes:
        kept.append(bytearray(b"x") * 2**20)
        time.sleep(0.001)
    code = f"kept = bytearray(b'x') * ({each} * 2**20); import signal; signal.pause()"
    for _ in range(children):
        subprocess.Popen([sys.executable, "-c", code])
    if children:
        signal.pause()
    return len(kept)


def want(size: int) -> int:
    """Ask for memory, and use none of it."""
    return len(bytearray(size))
