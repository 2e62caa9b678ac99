"""Heat on a square plate. Nodes need no copy of this: functions of it travel with the tasks."""

from lattice.relaxing import Diverged, relax

__all__ = ["Diverged", "relax"]
