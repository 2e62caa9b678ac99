"""The rules and the invariants of the state machine test of blocks."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fxhpc.protocol import provision as prov
from tests.unit.interchange.batch_system import FakeManager, Job, Site

small = st.integers(0, 5)
MAX_IDLE_S = 40.0


class BlocksMachine(RuleBasedStateMachine):
    """Everything that batch systems, provisioners and nodes can do, in every order."""

    site: Site

    @initialize(
        most=st.integers(1, 4),
        least=st.integers(0, 1),
        first=st.integers(0, 2),
        nodes=st.integers(1, 2),
        slots=st.sampled_from([0, 2]),
        walltime_s=st.sampled_from([0.0, 200.0]),
        drain_s=st.sampled_from([0.0, 30.0]),
    )
    def begin(
        self,
        most: int,
        least: int,
        first: int,
        nodes: int,
        slots: int,
        walltime_s: float,
        drain_s: float,
    ) -> None:
        self.site = Site(
            prov.ScalingPolicy(
                nodes_per_block=nodes,
                init_blocks=min(first, most),
                min_blocks=least,
                max_blocks=most,
                max_idle_s=MAX_IDLE_S,
                walltime_s=walltime_s,
                drain_s=drain_s,
                slots_per_node=slots,
                register_s=60.0,
            )
        )
        self.site.nodes = nodes
        self.streams = 0

    # --- work -----------------------------------------------------------------------------------

    @rule(count=st.integers(1, 12), walltime_s=st.sampled_from([0.0, 0.0, 50.0, 150.0]))
    def submit(self, count: int, walltime_s: float) -> None:
        self.streams += 1
        stream = self.streams.to_bytes(12, "big")
        self.site.submit(count, stream=stream, walltime_s=walltime_s)

    @rule(count=st.sampled_from([0, 1, 5, 1000]))
    def backlog(self, count: int) -> None:
        self.site.backlog(count)

    @rule(task_s=st.sampled_from([1.0, 10.0, 45.0]))
    def tasks_take(self, task_s: float) -> None:
        self.site.task_s = task_s

    @rule(seconds=st.sampled_from([0.5, 2.0, 7.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.site.run(seconds)

    # --- the batch system -----------------------------------------------------------------------

    @rule(queue_s=st.sampled_from([0.0, 10.0, 100.0]), free=st.integers(0, 4))
    def queue(self, queue_s: float, free: int) -> None:
        self.site.slurm.queue_s, self.site.slurm.free = queue_s, free

    @rule(why=st.sampled_from(["", "sbatch: error: Invalid account"]))
    def refuses(self, why: str) -> None:
        self.site.slurm.refuses = why

    @rule(why=st.sampled_from(["", "Unable to contact slurm controller"]), takes=st.booleans())
    def away(self, why: str, takes: bool) -> None:
        self.site.slurm.away, self.site.slurm.away_takes = why, takes

    @rule(why=st.sampled_from(["", "", "module: command not found"]), fatal=st.booleans())
    def scripts_fail(self, why: str, fatal: bool) -> None:
        self.site.slurm.fails_at_start = why
        self.site.slurm.fatal = why if fatal else ""

    @rule(forgets=st.booleans())
    def forgets(self, forgets: bool) -> None:
        self.site.slurm.forgets = forgets

    @rule(which=small)
    def scancel(self, which: int) -> None:
        if job := self.job(which):
            self.site.scancel(job)

    # --- nodes ----------------------------------------------------------------------------------

    @rule(registers=st.booleans(), boot_s=st.sampled_from([0.0, 5.0, 30.0]), polite=st.booleans())
    def nodes_are(self, registers: bool, boot_s: float, polite: bool) -> None:
        self.site.registers, self.site.boot_s, self.site.polite = registers, boot_s, polite

    @rule(which=small)
    def manager_vanishes(self, which: int) -> None:
        if manager := self.manager(which):
            self.site.vanish(manager)

    @rule(which=small, silent=st.booleans())
    def manager_is_cut_off(self, which: int, silent: bool) -> None:
        if manager := self.manager(which):
            back = manager.silent and not silent
            manager.silent = silent
            if back:
                manager.greet()

    # --- processes ------------------------------------------------------------------------------

    @rule(hangs=st.booleans())
    def provisioner_hangs(self, hangs: bool) -> None:
        self.site.hangs = hangs

    @rule(executed=st.integers(0, 2), late_s=st.sampled_from([None, 0.5, 8.0]))
    def provisioner_dies(self, executed: int, late_s: float | None) -> None:
        self.site.kill_provisioner(executed=executed, late_s=late_s)

    @rule(
        executed=st.integers(0, 1),
        late_s=st.sampled_from([None, 1.0, 8.0]),
        seconds=st.sampled_from([0.0, 2.0, 5.0, 40.0]),
    )
    def provisioner_dies_while_it_submits(
        self, executed: int, late_s: float | None, seconds: float
    ) -> None:
        self.site.run(1.0)
        self.site.hangs = True
        self.submit(6, 0.0)
        self.site.run(1.0)
        self.site.kill_provisioner(executed=executed, late_s=late_s)
        self.site.hangs = False
        self.site.run(seconds)

    @rule()
    def interchange_restarts(self) -> None:
        self.site.slurm.status_commands.clear()
        self.site.start()

    @rule(seconds=st.sampled_from([0.0, 5.0]))
    def endpoint_restarts(self, seconds: float) -> None:
        self.site.stop(keep_blocks=True)
        assert self.site.left
        self.site.run(seconds)
        self.interchange_restarts()

    @precondition(lambda self: self.streams)
    @rule(drain_s=st.sampled_from([0.0, 20.0]), seconds=st.sampled_from([1.0, 30.0, 100.0]))
    def endpoint_stops_and_starts(self, drain_s: float, seconds: float) -> None:
        self.site.stop(drain_s=drain_s)
        self.site.run(seconds)
        self.interchange_restarts()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        if not hasattr(self, "site"):
            return
        site = self.site
        assert site.policy
        assert site.most_alive <= site.policy.max_blocks, "too many blocks"
        for job in site.slurm.alive():
            assert job.number in site.journal, f"{job.name} is forgotten"
        site.check_status_commands()

    # --- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.finish()

    def finish(self) -> None:
        """Heal everything: then all tasks end, and after a stop nothing is left."""
        site = self.site
        slurm = site.slurm
        slurm.queue_s, slurm.free, slurm.refuses, slurm.away = 0.0, 100, "", ""
        slurm.fails_at_start = slurm.fatal = ""
        site.registers, site.boot_s, site.hangs, site.task_s = True, 0.0, False, 1.0
        for manager in site.living():
            if manager.silent:
                manager.silent = False
                manager.greet()
        if site.left:
            self.interchange_restarts()
        site.backlog(0)
        for _ in range(100):  # a pause may last four hours
            site.run(200)
            self.promises_hold()
            if len(site.outcomes) == len(site.submitted):
                break
        else:
            waiting = site.submitted.keys() - site.outcomes.keys()
            raise AssertionError(f"{len(waiting)} tasks never end: {site.reason}")
        assert not [o for o in site.losses().values() if "cut off" in o.text]
        site.run(MAX_IDLE_S + 60)
        assert site.policy
        assert len(slurm.alive()) <= max(site.policy.min_blocks, site.policy.init_blocks)
        site.stop(drain_s=10.0)
        site.run(60)
        assert site.left == "stopped", site.left
        assert not slurm.alive()
        assert not site.journal
        assert not site.living()
        self.promises_hold()

    # --- help -----------------------------------------------------------------------------------

    def job(self, which: int) -> Job | None:
        alive = self.site.slurm.alive()
        return alive[which % len(alive)] if alive else None

    def manager(self, which: int) -> FakeManager | None:
        living = self.site.living()
        return living[which % len(living)] if living else None
