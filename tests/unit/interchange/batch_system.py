"""A batch system, a provisioner and managers that are only simulated, around an interchange's core.

Time passes in steps of half a second. Every fault is asked for: jobs that wait, are refused, end at
once, never register; commands that fail, hang, or take effect though their answer is lost.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from fxhpc.protocol.needs import Size
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, unpack_loss
from fxhpc.testing.clock import FakeClock

STEP_S = 0.5
MANY = 1 << 30


class Job:
    """One job, as the batch system knows it."""

    def __init__(self, job: str, name: str, now: float) -> None:
        self.job = job
        self.name = name
        self.submitted = now
        self.started: float | None = None
        self.ended: float | None = None
        self.words = ""
        self.stderr = ""
        self.fatal = ""

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def number(self) -> int:
        """Of the block: the last part of its name."""
        return int(self.name.rpartition("-")[2])


class Slurm:
    """The batch system. What it does is chosen by its attributes."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.jobs: list[Job] = []
        self.queue_s = 0.0  # how long jobs wait
        self.walltime_s = 0.0
        self.free = 100  # jobs that can run at once
        self.refuses = ""  # submissions
        self.away = ""  # no command works
        self.garbled = ""  # what sbatch says instead of a job's id; there is no job
        self.silent = ""  # only sbatch gives no answer
        self.away_takes = False  # but submissions take effect, only their answer is lost
        self.fails_at_start = ""  # what scripts write before they end; no manager ever starts
        self.fatal = ""
        self.forgets = False  # ended jobs are not known any more
        self.submissions: list[float] = []
        self.status_commands: list[float] = []

    def submit(self, name: str) -> str:
        """sbatch; the job's id.

        Raises:
            ValueError: it is refused.
        """
        self.submissions.append(self._clock())
        if self.refuses:
            raise ValueError(self.refuses)
        job = Job(str(1000 + len(self.jobs)), name, self._clock())
        self.jobs.append(job)
        return job.job

    def find(self, block: prov.BlockRef) -> Job | None:
        found = (job for job in self.jobs if job.job == block.job or job.name == block.name)
        return next(found, None)

    def report(self, block: prov.BlockRef) -> prov.JobReport:
        job = self.find(block)
        if job is None or (self.forgets and not job.alive and not block.job):
            return prov.JobReport(block.number, prov.JobPhase.MISSING)
        if not job.alive:
            return self.end_report(job)
        if job.started is None:
            words = "PENDING (Priority)"
            return prov.JobReport(block.number, prov.JobPhase.PENDING, job.job, words)
        return prov.JobReport(block.number, prov.JobPhase.RUNNING, job.job, "RUNNING", "node1")

    def end_report(self, job: Job) -> prov.JobReport:
        return prov.JobReport(
            job.number, prov.JobPhase.ENDED, job.job, job.words, "", job.stderr, job.fatal
        )

    def end(self, job: Job, words: str) -> None:
        if job.alive:
            job.ended, job.words = self._clock(), words

    def advance(self) -> None:
        """Start what can start, end what is over."""
        now = self._clock()
        for job in self.alive():
            if job.started is None:
                running = sum(other.started is not None for other in self.alive())
                if now >= job.submitted + self.queue_s and running < self.free:
                    job.started = now
                    if self.fails_at_start or self.fatal:
                        job.stderr, job.fatal = self.fails_at_start, self.fatal
                        self.end(job, "FAILED, exit code 1")
            elif self.walltime_s and now >= job.started + self.walltime_s:
                self.end(job, "TIMEOUT")

    def alive(self) -> list[Job]:
        return [job for job in self.jobs if job.alive]


class FakeManager:
    """A manager on a node of a job, or on its own. Tasks take `task_s` each."""

    def __init__(self, site: Site, name: str, job: Job | None, slots: int) -> None:
        self.site = site
        self.name = name
        self.peer = name.encode()
        self.job = job
        self.slots = slots
        self.held: deque[tuple[msg.TaskRun, int]] = deque()
        self.running: dict[tuple[bytes, int], tuple[msg.TaskRun, float]] = {}
        self.draining = self.left = self.silent = False
        self.results = 0

    def greet(self) -> None:
        site, job = self.site, self.job
        remaining_s = 0.0
        if job is not None and job.started is not None and site.slurm.walltime_s:
            remaining_s = max(0.1, job.started + site.slurm.walltime_s - site.clock())
        held = [
            msg.TaskRefs(run.stream, [index, 1], run.epoch, run.attempt) for run, index in self.held
        ]
        running = [
            msg.TaskRefs(stream, [index, 1], run.epoch, run.attempt)
            for (stream, index), (run, _) in self.running.items()
        ]
        self.draining = False
        protocol = site.protocol
        self.say(
            msg.Register(
                self.name,
                b"",
                self.slots,
                "1",
                protocol=protocol,
                oldest_protocol=protocol,
                host="node1",
                cores=self.slots,
                block="" if job is None else str(job.number),
                queued=held,
                running=running,
                remaining_s=remaining_s,
                walltime_s=site.slurm.walltime_s,
                job="" if job is None else job.job,
                size=site.size,
            )
        )
        self.say(msg.Capacity(self.slots, MANY, self.slots))

    def say(self, message: msg.FromManager) -> None:
        if not self.silent:
            self.site.tell(ev.ManagerSaid(self.peer, message))

    def hear(self, message: msg.ToManager) -> None:
        if self.left or self.silent:
            return
        if isinstance(message, msg.Tasks):
            for run in message.runs:
                for position in range(len(run.payloads)):
                    self.held.append((run, run.first + position))
            assert len(self.held) + len(self.running) <= self.slots or not self.site.check_credit
        elif isinstance(message, msg.Drain):
            self.draining = True
            self.give_back()
        elif isinstance(message, msg.Bye | msg.Refuse):
            self.leave(str(message.reason))

    def give_back(self) -> None:
        """Return what has not begun."""
        returned = [
            msg.TaskRefs(run.stream, [index, 1], run.epoch, run.attempt) for run, index in self.held
        ]
        self.held.clear()
        if returned:
            self.say(msg.Returned(returned))

    def leave(self, reason: str) -> None:
        if not self.left:
            self.left = True
            self.say(msg.Bye(reason))

    def interrupt(self, cause: LossCause, reason: str) -> None:
        """Its job ends, and it has a moment to say so."""
        self.say(msg.Capacity(0, 0, 0))
        self.give_back()
        lost = [
            msg.LostTask(
                run.stream,
                index,
                run.epoch,
                run.attempt,
                Loss(cause, reason, ran_s=self.site.clock() - since, block_s=self.block_s),
            )
            for (_, index), (run, since) in self.running.items()
        ]
        self.say(msg.Lost(lost))
        self.leave(reason)

    @property
    def block_s(self) -> float:
        return self.site.slurm.walltime_s

    def advance(self) -> None:
        """Begin and end tasks."""
        now = self.site.clock()
        done = [key for key, (_, since) in self.running.items() if now >= since + self.task_s(key)]
        for key in done:
            run, _ = self.running.pop(key)
            outcome = Outcome(key[1], OutcomeKind.VALUE, b"v")
            self.results += 1
            result = msg.ResultRun(run.stream, run.epoch, run.attempt, [outcome])
            self.say(msg.Results(self.results, [result]))
        begun = []
        while self.held and len(self.running) < self.slots:
            run, index = self.held.popleft()
            key = (run.stream, index)
            self.running[key] = (run, now)
            self.site.began[key] = self.site.began.get(key, 0) + 1
            begun.append(msg.TaskRefs(run.stream, [index, 1], run.epoch, run.attempt))
        if begun:
            self.say(msg.Started(begun))
        self.say(msg.Heartbeat())
        if self.draining and not self.running:
            self.leave("drained")

    def task_s(self, key: tuple[bytes, int]) -> float:
        return self.site.task_s


class Site:
    """An endpoint with a batch system, and a forwarder that is always there."""

    def __init__(self, policy: prov.ScalingPolicy | None, **more: object) -> None:
        self.clock = FakeClock()
        self.slurm = Slurm(self.clock)
        if policy is not None:
            self.slurm.walltime_s = policy.walltime_s
        self.policy = policy
        self.more = more
        self.boot_s = 0.0  # from a job's start to its manager's greeting
        self.registers = True  # whether managers can reach the interchange
        self.polite = True  # whether managers can say something before their job ends
        self.protocol = msg.PROTOCOL
        self.slots = 2
        self.size: Size | None = None  # of each node, if its manager tells
        self.task_s = 3.0
        self.nodes = 1  # managers for each job
        self.check_credit = True
        self.managers: list[FakeManager] = []
        self.journal: dict[int, prov.BlockRef] = {}
        self.last_block = 0
        self.records: list[ev.Sent | ev.ManagerKnown] = []
        self.asked: deque[prov.ToProvisioner] = deque()
        self.watched: list[str] = []  # blocks whose ends are to be told unasked
        self.answers: deque[prov.FromProvisioner] = deque()
        self.provisioner = False
        self.late: list[tuple[float, str]] = []  # submissions of killed provisioners
        self.hangs = False  # the provisioner does not come to an end of what it does
        self.left = ""
        self.statuses: list[msg.Status] = []
        self.notes: list[str] = []
        self.outcomes: dict[tuple[bytes, int], Outcome] = {}
        self.began: dict[tuple[bytes, int], int] = {}
        self.submitted: dict[tuple[bytes, int], msg.TaskRun] = {}
        self.window = 0
        self.epoch = 0
        self.most_alive = 0
        self.start()

    # --- the interchange's process --------------------------------------------------------------

    def start(self) -> None:
        """Start an interchange: the first, or the next after a kill -9."""
        self.epoch += 1
        self.left = ""
        self.core = Interchange(
            "5a4e0000-0000-4000-8000-000000000001",
            self.epoch,
            scaling=self.policy,
            name="midway",
            notes=True,
            **self.more,  # type: ignore[arg-type]
        )
        self.asked.clear()
        self.answers.clear()
        self.provisioner = False
        known: dict[str, str] = {}
        sent: list[ev.Sent] = []
        for record in self.records:
            if isinstance(record, ev.Sent):
                sent.append(record)
            elif record.present:
                known[record.manager] = record.block
            else:
                known.pop(record.manager, None)
        self.tell(ev.Recovered(list(known), sent, blocks=known))
        self.tell(ev.RecoveredBlocks(list(self.journal.values()), self.last_block))
        self.tell(ev.ForwarderSaid(msg.Hello(1, "1")))
        for run in self.owed():
            run.sent_before = self.epoch > 1
            self.tell(ev.ForwarderSaid(msg.Tasks([run])))
        for manager in self.living():
            manager.greet()

    def owed(self) -> list[msg.TaskRun]:
        return [
            msg.TaskRun(
                run.stream, index, run.function, [b"x"], retries=2, walltime_s=run.walltime_s
            )
            for (_, index), run in self.submitted.items()
            if (run.stream, index) not in self.outcomes
        ]

    def start_provisioner(self) -> None:
        self.provisioner = True
        self.tell(ev.ProvisionerSaid(prov.ProvisionerReady("Slurm")))

    def kill_provisioner(self, *, executed: int = 0, late_s: float | None = None) -> None:
        """Kill it.

        Args:
            executed: so many requests have taken effect, though nobody hears of it.
            late_s: the next one is a command that lives on, and takes effect so much later.
        """
        for _ in range(executed):
            if self.asked:
                self._execute(self.asked.popleft())
        if late_s is not None and self.asked and isinstance(self.asked[0], prov.SubmitBlock):
            self.late.append((self.clock() + late_s, self.asked[0].block.name))
        self.asked.clear()
        self.answers.clear()
        self.provisioner = False
        self.tell(ev.ProvisionerGone("it was killed: sbatch hung for 45 s"))

    def stop(self, *, keep_blocks: bool = False, drain_s: float = 0.0) -> None:
        self.tell(ev.StopAsked(keep_blocks, drain_s))

    def tell(self, event: ev.Event) -> None:
        if not self.left:
            for action in self.core.handle(event, self.clock()):
                self._carry_out(action)

    def _carry_out(self, action: ev.Action) -> None:
        if isinstance(action, ev.ToProvisioner):
            assert self.provisioner, "nobody is there to be asked"
            if isinstance(action.message, prov.SubmitBlock):
                block = action.message.block
                assert self.journal[block.number] == block, "asked for before it is written down"
            self.asked.append(action.message)
        elif isinstance(action, ev.BlockKnown):
            if action.present:
                self.journal[action.block.number] = action.block
                self.last_block = max(self.last_block, action.block.number)
            else:
                del self.journal[action.block.number]
        elif isinstance(action, ev.Sent | ev.ManagerKnown):
            self.records.append(action)
        elif isinstance(action, ev.Leave):
            self.left = action.reason
        elif isinstance(action, ev.Note):
            self.notes.append(action.text)
        elif isinstance(action, ev.ToManager):
            for manager in self.living():
                if manager.peer == action.peer:
                    manager.hear(action.message)
        elif isinstance(action, ev.ToForwarder):
            self._hear(action.message)

    def _hear(self, message: msg.FromInterchange) -> None:
        if isinstance(message, msg.Status):
            self.statuses.append(message)
        elif isinstance(message, msg.Window):
            self.window = message.tasks
        elif isinstance(message, msg.Results):
            for run in message.runs:
                for outcome in run.outcomes:
                    self.outcomes[run.stream, outcome.index] = outcome
            self.tell(ev.ForwarderSaid(msg.ResultsStored([message.number])))

    # --- what happens ---------------------------------------------------------------------------

    def submit(self, count: int, *, stream: bytes = b"stream------", **more: object) -> None:
        """Tasks come from the forwarder."""
        first = sum(key[0] == stream for key in self.submitted)
        run = msg.TaskRun(stream, first, b"f" * 32, [b"x"] * count, **more)  # type: ignore[arg-type]
        for index in range(first, first + count):
            self.submitted[stream, index] = run
        self.tell(ev.ForwarderSaid(msg.Tasks([run])))

    def backlog(self, count: int) -> None:
        self.tell(ev.ForwarderSaid(msg.Backlog(count)))

    def new_manager(self, job: Job | None, name: str) -> FakeManager:
        manager = FakeManager(self, name, job, self.slots)
        self.managers.append(manager)
        manager.greet()
        return manager

    def vanish(self, manager: FakeManager, why: str = "its connection was closed") -> None:
        manager.left = True
        self.tell(ev.ManagerGone(manager.peer, why))

    def scancel(self, job: Job) -> None:
        self.slurm.end(job, "CANCELLED by 0")

    def step(self) -> None:
        """Half a second passes."""
        self.clock.advance(STEP_S)
        if not self.provisioner and not self.left:
            self.start_provisioner()
        for when, name in list(self.late):
            if self.clock() >= when:
                self.late.remove((when, name))
                if not self.slurm.refuses:
                    self.slurm.submit(name)
        self.slurm.advance()
        self._end_managers()
        self._start_managers()
        if not self.hangs:
            self.work()
        for manager in self.living():
            manager.advance()
        self.tell(ev.Tick())
        self.most_alive = max(self.most_alive, len(self.slurm.alive()))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / STEP_S)):
            self.step()

    def work(self) -> None:
        """The provisioner does what it was asked, and answers."""
        while self.asked:
            self._execute(self.asked.popleft())
        while self.answers:
            self.tell(ev.ProvisionerSaid(self.answers.popleft()))

    def _execute(self, request: prov.ToProvisioner) -> None:
        away = self.slurm.away
        if isinstance(request, prov.SubmitBlock):
            block = request.block
            if self.slurm.garbled or self.slurm.silent:
                self.slurm.submissions.append(self.clock())
                said, unclear = self.slurm.garbled or self.slurm.silent, bool(self.slurm.garbled)
                self.answers.append(prov.NotSubmitted(block.number, said, True, unclear))
                return
            if away:
                if self.slurm.away_takes and not self.slurm.refuses:
                    self.slurm.submit(block.name)
                else:
                    self.slurm.submissions.append(self.clock())
                self.answers.append(prov.NotSubmitted(block.number, away, away=True))
                return
            try:
                job = self.slurm.submit(block.name)
            except ValueError as error:
                self.answers.append(prov.NotSubmitted(block.number, str(error)))
            else:
                self.answers.append(prov.Submitted(block.number, job))
        elif isinstance(request, prov.AskJobs):
            self.slurm.status_commands.append(self.clock())
            reports = [] if away else [self.slurm.report(block) for block in request.blocks]
            self.answers.append(prov.Jobs(reports, away))
        elif isinstance(request, prov.WatchBlocks):
            self.watched += [block.name for block in request.blocks]
        elif away:
            self.answers.append(prov.CancelDone([], away))
        else:
            for block in request.blocks:
                if job_ := self.slurm.find(block):
                    self.slurm.end(job_, "CANCELLED by us")
            self.answers.append(prov.CancelDone([block.number for block in request.blocks]))

    def _end_managers(self) -> None:
        for manager in self.living():
            job = manager.job
            if job is None or job.alive:
                continue
            if self.polite:
                cause = LossCause.WALLTIME if job.words == "TIMEOUT" else LossCause.INTERRUPTED
                manager.interrupt(cause, f"the batch system ended it: {job.words}")
            else:
                self.vanish(manager)

    def _start_managers(self) -> None:
        """Of jobs that run, and whose scripts have come so far; unasked words of ended ones."""
        for job in self.slurm.jobs:
            there = [manager for manager in self.managers if manager.job is job]
            if not job.alive:
                if job.ended == self.clock() and job.started is not None and self.provisioner:
                    report = self.slurm.end_report(job)
                    if job.words.startswith(("TIMEOUT", "CANCELLED", "PREEMPTED")):
                        report.words, report.killed = "ended, exit code 143", True
                    self.answers.append(prov.Jobs([report], unasked=True))
                continue
            if job.started is None or not self.registers or there:
                if there and all(manager.left for manager in there):
                    self.slurm.end(job, "COMPLETED")  # its script waits for its managers
                continue
            if self.clock() >= job.started + self.boot_s:
                for node in range(self.nodes):
                    self.new_manager(job, f"manager-{job.job}-{node}")

    # --- what is seen ---------------------------------------------------------------------------

    def living(self) -> list[FakeManager]:
        return [manager for manager in self.managers if not manager.left]

    @property
    def status(self) -> msg.Status:
        return self.statuses[-1]

    @property
    def reason(self) -> str:
        return self.status.reason

    def losses(self) -> dict[int, Loss]:
        return {
            key[1]: unpack_loss(outcome.data)
            for key, outcome in self.outcomes.items()
            if outcome.kind == OutcomeKind.LOST
        }

    def check_status_commands(self) -> None:
        """One at most every `poll_s`."""
        times = self.slurm.status_commands
        assert self.policy is not None
        for before, after in pairwise(times):
            assert after - before >= self.policy.poll_s, times
