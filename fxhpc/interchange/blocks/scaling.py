"""When an endpoint asks for blocks, and when it gives them back: the rules, as pure functions.

The words and the first two rules are those of Parsl's strategies (`parsl/jobs/strategy.py`); the
others are promise 10 of the design.

* Out: `parallelism` worker slots are wanted for each outstanding task, one slot at least while
  there is any. What is there and what is coming counts; the rest is asked for, a block at a time.
* In: a block that has had nothing to do for `max_idle_s` is given back, each by itself. Of those
  that are still coming, the youngest are given back first, once nobody has needed them for
  `max_idle_s`: a short lull does not throw a place in the batch system's queue away.
* Never more than `max_blocks`, counting all that may be there. `min_blocks` are kept, also when the
  batch system has ended one; `init_blocks` are asked for at the start. Without `scale` that is all.
* How many workers a node will have may be unknown: then one block is asked for, and more when its
  first manager has told.
* As long as no block has shown that it works, or the last one has failed, at most three in all are
  tried: so a script that cannot work costs three blocks. One that the batch system has kept waiting
  for `QUEUED_S` does not count: where there is a queue, a place in it is worth more.
* Tasks that no block's rest suffices for want a block of their own, and a block that idles because
  of that is given back even if that leaves less than `min_blocks`: its successor has time.
"""

from __future__ import annotations

import math

import msgspec

from fxhpc.protocol.provision import ScalingPolicy

#: Blocks that may fail in a row before scaling pauses.
TRIES = 3

#: A block that waits in the batch system's queue for so long is not one that fails at once.
QUEUED_S = 60.0

UNLIMITED = 2**31


class BlockView(msgspec.Struct, frozen=True):
    """One block, as far as scaling is concerned. Any that may exist has one."""

    number: int
    slots: int = 0  # workers of a ready one
    ready: bool = False  # a manager of it has registered
    leaving: bool = False  # gets no more work, but is still there
    unneeded_s: float = 0.0  # for so long it has had nothing to do, or nobody has wanted it
    queued_s: float = 0.0  # for so long the batch system has kept it waiting


class View(msgspec.Struct, frozen=True):
    """What scaling depends on."""

    blocks: list[BlockView]
    outstanding: int  # tasks that have not ended, here and at the forwarder
    slots_per_block: int = 0  # 0: nobody knows
    other_slots: int = 0  # workers of managers that belong to no block
    unfit: int = 0  # outstanding tasks that want more time than any manager has left
    initial: int = 0  # of `init_blocks`: those that have not registered yet
    proven: bool = True  # a block has registered
    failures: int = 0  # blocks that failed since then, in a row
    paused: bool = False  # after too many: one is tried now and then
    may_submit: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What is to be done. Blocks are named by their numbers."""

    submit: int = 0
    drain: list[int] = []
    cancel: list[int] = []
    unneeded: list[int] = []  # of those that are coming: nobody wants them at the moment


def plan(view: View, policy: ScalingPolicy) -> Plan:
    """What to ask for and what to give back now."""
    staying = [block for block in view.blocks if not block.leaving]
    ready = [block for block in staying if block.ready]
    coming = sorted((block for block in staying if not block.ready), key=lambda block: block.number)
    floor = policy.min_blocks
    wanted = max(_wanted_by_tasks(view, policy, ready), floor - len(ready), view.initial)
    submit = 0
    if view.may_submit:
        submit = min(
            wanted - len(coming),
            policy.max_blocks - len(view.blocks),
            _tries_left(view, coming),
        )
    if not policy.scale:
        return Plan(max(0, submit))
    unneeded = coming[max(0, wanted) :]
    cancel = [block.number for block in unneeded if block.unneeded_s >= policy.max_idle_s]
    idle = sorted(
        (block for block in ready if block.unneeded_s >= policy.max_idle_s),
        key=lambda block: -block.unneeded_s,
    )
    spare = len(ready) + len(coming) - len(cancel) - floor
    drain = idle[: max(spare, 1 if view.unfit else 0)]
    return Plan(
        max(0, submit),
        [block.number for block in drain],
        cancel,
        [block.number for block in unneeded],
    )


def _wanted_by_tasks(view: View, policy: ScalingPolicy, ready: list[BlockView]) -> int:
    """How many blocks should be coming because of the tasks that there are."""
    if not (policy.scale and view.outstanding):
        return 0
    slots = max(1, math.ceil(view.outstanding * policy.parallelism))
    slots -= view.other_slots + sum(block.slots for block in ready)
    if view.unfit:
        slots = max(slots, 1, math.ceil(view.unfit * policy.parallelism))
    if slots <= 0:
        return 0
    return math.ceil(slots / view.slots_per_block) if view.slots_per_block else 1


def _tries_left(view: View, coming: list[BlockView]) -> int:
    if view.paused:
        return 1 - len(coming)
    if view.proven and not view.failures:
        return UNLIMITED
    trying = sum(block.queued_s < QUEUED_S for block in coming)
    return max(1, TRIES - view.failures) - trying
