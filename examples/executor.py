"""Executor: `concurrent.futures` with workers of its own, which leave nothing behind."""

from concurrent.futures import as_completed

from fxhpc import Executor


def collatz(n: int) -> int:
    """How many steps the Collatz sequence takes from n down to 1."""
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def main() -> None:
    with Executor(max_workers=2) as executor:
        # One call, one future.
        future = executor.submit(collatz, 27)
        print(f"collatz(27) = {future.result()}, task {future.task_id}")

        # Many calls, in the order in which they end.
        futures = {executor.submit(collatz, n): n for n in (97, 871, 6171)}
        for done in as_completed(futures):
            print(f"collatz({futures[done]}) = {done.result()}")

        # Ten thousand short calls, a hundred to a task, in the order of the arguments.
        numbers = range(1, 10_001)
        steps = executor.map(collatz, numbers, chunksize=100)
        longest, start = max(zip(steps, numbers, strict=True))
        print(f"below {len(numbers):,}, {start} takes longest: {longest} steps")


if __name__ == "__main__":
    main()
