"""How long from starting an endpoint on an idle Slurm cluster to the first result, beside Parsl's.

    python -m benchmarks.startup --repeats 3 [--only fxhpc]

As root: the cluster is made for it (tests/scheduler/slurm). fxhpc is measured from the command
`fxhpc endpoint start` to the result of a task that is submitted when the command returns, Parsl's
HighThroughputExecutor from `parsl.load` to the result of its first app, both on one block of two
nodes through SlurmProvider and SrunLauncher, imports done before. Systems take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.environments import compile_checkout
from benchmarks.report import machine, table

_SLURM = Path(__file__).resolve().parents[1] / "tests" / "scheduler" / "slurm"
_LIMIT_S = 180.0

_YAML = """
engine:
  max_workers_per_node: 2
  provider:
    type: SlurmProvider
    partition: normal
    walltime: "00:10:00"
    nodes_per_block: 2
    init_blocks: {init}
    max_blocks: 1
    launcher: {{type: SrunLauncher}}
"""


def host() -> str:
    """What runs on a node."""
    import platform

    return platform.node()


def measure_fxhpc(directory: Path, init_blocks: int) -> float:
    """Seconds from the command to the first result."""
    from fxhpc import FuncXClient

    os.environ["FXHPC_HOME"] = str(directory / "home")
    config = directory / "midway.yaml"
    config.write_text(_YAML.format(init=init_blocks))
    command = [sys.executable, "-m", "fxhpc.cli.main", "endpoint"]
    run = lambda *words: subprocess.run([*command, *words], check=True, capture_output=True)  # noqa: E731
    run("configure", "midway", "--from", str(config))
    began = time.perf_counter()
    try:
        run("start", "midway")
        with FuncXClient() as fxc:
            task = fxc.run(endpoint_id="midway", function_id=fxc.register_function(host))
            assert fxc.get_result(task, timeout=_LIMIT_S).startswith("node")
            return time.perf_counter() - began
    finally:
        run("stop", "midway", "--now")


def measure_parsl(directory: Path) -> float:
    """Seconds from parsl.load to the first result."""
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.launchers import SrunLauncher
    from parsl.providers import SlurmProvider

    began = time.perf_counter()
    provider = SlurmProvider(
        partition="normal",
        walltime="00:10:00",
        nodes_per_block=2,
        init_blocks=1,
        max_blocks=1,
        launcher=SrunLauncher(),
        worker_init=f"export PATH={Path(sys.executable).parent}:$PATH",
    )
    executor = HighThroughputExecutor(
        address=os.environ["SLURM_TEST_HOST_IP"], max_workers_per_node=2, provider=provider
    )
    kernel = parsl.load(Config(executors=[executor], run_dir=str(directory / "runinfo")))
    try:
        assert parsl.python_app(host)().result(_LIMIT_S).startswith("node")
        return time.perf_counter() - began
    finally:
        kernel.cleanup()


SYSTEMS: dict[str, Callable[[Path], float]] = {
    "fxhpc, a block at the first task": lambda directory: measure_fxhpc(directory, 0),
    "fxhpc, a block at the start": lambda directory: measure_fxhpc(directory, 1),
    "Parsl HTEX, a block at the start": measure_parsl,
}


def until_idle(environment: dict[str, str]) -> None:
    """Wait until no job is left, and all nodes are idle."""
    deadline = time.monotonic() + _LIMIT_S
    ask = ["sh", "-c", "squeue -h; sinfo -h -N -o %t | grep -v idle"]
    while subprocess.run(ask, env=environment, capture_output=True).stdout:
        assert time.monotonic() < deadline, "the cluster does not become idle"
        time.sleep(0.2)


def main() -> None:
    """Bring a cluster up, measure in turn, tell the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each system")
    parser.add_argument("--only", default="", metavar="WORDS", help="systems with this in the name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        directory = Path(tempfile.mkdtemp(prefix="fxhpc-startup-"))
        import parsl  # noqa: F401  # imports are not what is measured

        import fxhpc  # noqa: F401

        try:
            print(json.dumps(SYSTEMS[options.measure](directory)))
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return
    compile_checkout()
    found: dict[str, list[float]] = {name: [] for name in SYSTEMS if options.only in name}
    numbers = (n for n in range(40, 50) if not Path(f"/sys/class/net/slurmbr{n}").exists())
    number = os.environ.get("SLURM_TEST_ID") or str(next(numbers))
    with tempfile.TemporaryDirectory(prefix="fxhpc-cluster-") as directory:
        environment = {
            **os.environ,
            "SLURM_TEST_ID": number,
            "SLURM_TEST_DIR": directory,
            "SLURM_CONF": f"{directory}/etc/slurm.conf",
            "SLURM_TEST_HOST_IP": f"10.213.{number}.254",
            "FXHPC_FORWARDER_GRACE": "1",
            # Parsl starts its interchange by a name that it looks for.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        try:
            up = [_SLURM / "slurm-up", "2"]
            subprocess.run(up, env=environment, check=True, stdout=subprocess.DEVNULL)
            for repeat in range(options.repeats):
                for name, seconds in found.items():
                    until_idle(environment)
                    command = [sys.executable, "-m", "benchmarks.startup", "--measure", name]
                    done = subprocess.run(
                        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                    )
                    seconds.append(json.loads(done.stdout.splitlines()[-1]))
                    turn = f"[{repeat + 1}/{options.repeats}]"
                    print(f"{turn} {name}: {seconds[-1]:.2f} s", file=sys.stderr)
        finally:
            subprocess.run([_SLURM / "slurm-down"], env=environment)
    print(f"{machine()}; {options.repeats} interleaved repeats, median [min-max]\n")
    rows = [
        [name, f"{statistics.median(times):.2f} [{min(times):.2f}-{max(times):.2f}]"]
        for name, times in found.items()
    ]
    print(table(["system", "from its start to the first result, s"], rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": found}) + "\n")


if __name__ == "__main__":
    main()
