"""How soon a process that died is started again. Pure."""

from __future__ import annotations

#: A process that dies within so many seconds of its start has done no work: waiting grows.
EARLY_S = 10.0

#: So many early deaths in a row are told as trouble: starting again alone does not help.
MANY = 5

#: The first death costs no time; the next in a row doubles the wait, up to so many seconds.
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0

#: The same for one that had served: tasks wait for it, and it may have been killed from outside.
LONGEST_SERVED_S = 3.0


class Restarts:
    """Counts deaths, and says how long to wait after each."""

    def __init__(self) -> None:
        self.total = 0
        self.in_a_row = 0
        self._unready = 0  # of these, the last ones that had not become ready

    @property
    def is_trouble(self) -> bool:
        """Whether it died so often in a row that somebody has to act."""
        return self.in_a_row >= MANY

    def died(self, lived_s: float, served: bool = False) -> float:
        """It died: in how many seconds to start the next.

        Args:
            lived_s: seconds from its start to its death.
            served: whether it had become ready.
        """
        self.total += 1
        self.in_a_row = self.in_a_row + 1 if lived_s < EARLY_S else 0
        self._unready = 0 if served else self._unready + 1
        if self.in_a_row < 2:
            return 0.0
        row, longest = self.in_a_row, LONGEST_SERVED_S
        if self._unready > 1:
            row, longest = self._unready, LONGEST_DELAY_S
        return float(min(longest, FIRST_DELAY_S * 2 ** min(row - 2, 30)))

    def lived(self, lived_s: float) -> bool:
        """It lives, for so many seconds: whether this ends a row of early deaths."""
        if lived_s < EARLY_S or not self.in_a_row:
            return False
        self.in_a_row = 0
        return True
