"""How tasks fail, and what the caller gets to see: each failure is one task's, and says why."""

import os
import signal
import sys

from fxhpc import Executor
from fxhpc.errors import MaxResultSizeExceeded, TaskExited, WorkerDied


class Unstable(Exception):
    """An exception of this script's own; it comes back as this very class."""

    def __init__(self, step: int, residual: float) -> None:
        super().__init__(f"diverged in step {step}, residual {residual:g}")
        self.step = step
        self.residual = residual


def diverge(step: int) -> None:
    raise Unstable(step, 1e9)


def give_up() -> None:
    sys.exit(3)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out


def talkative() -> bytes:
    return bytes(6 * 2**20)  # more than the limit of 5 MB for a result


def fine() -> str:
    return "and the next task runs as if nothing had happened"


def main() -> None:
    # retries=0: a task whose worker dies is not run again. The default is two more times.
    with Executor(max_workers=2, retries=0) as executor:
        try:
            executor.submit(diverge, 17).result()
        except Unstable as error:
            print(f"Unstable: {error} (step {error.step})")
            print(f"where it happened: {error.__cause__}")

        for function, expected in (
            (give_up, (SystemExit, TaskExited)),
            (killed, WorkerDied),
            (talkative, MaxResultSizeExceeded),
        ):
            try:
                executor.submit(function).result()
            except expected as error:
                print(f"\n{type(error).__name__}: {error}")

        print(f"\n{executor.submit(fine).result()}")


if __name__ == "__main__":
    main()
