"""map_run and as_completed: a thousand tasks that outlive this script, kept by its home."""

from fxhpc import FuncXClient


def simulate(seed: int, steps: int = 1000) -> tuple[int, float]:
    """A random walk: its seed, and how far it got."""
    import random

    generator = random.Random(seed)
    position = 0.0
    for _ in range(steps):
        position += generator.gauss(0.0, 1.0)
    return seed, position


def main() -> None:
    with FuncXClient() as fxc:
        function = fxc.register_function(simulate, description="a random walk")

        # When this returns, the thousand tasks are in the home's store: whatever happens to this
        # script, their ids are good for asking again, from any other.
        ids = fxc.map_run(range(1000), endpoint_id="local", function_id=function, steps=200)
        print(f"{len(ids):,} tasks, the first is {ids[0]}")

        farthest, of = 0.0, 0
        for task_id in fxc.as_completed(ids):
            seed, position = fxc.get_result(task_id)
            if abs(position) > abs(farthest):
                farthest, of = position, seed
        print(f"the walk with seed {of} got farthest: {farthest:.1f}")


if __name__ == "__main__":
    main()
