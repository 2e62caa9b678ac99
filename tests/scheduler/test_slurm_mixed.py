"""Tasks of all sizes on the nodes of a block: each has what it needs, and no node is left idle."""

from __future__ import annotations

import concurrent.futures as cf
import time
from pathlib import Path

import mixed_work as mixed
import pytest
from login_node import LoginNode, configuration, soon
from mixed_work import Size
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient, errors
from tests.faults.figures import record_figure

SPREAD = {"num_nodes": 2, "num_ranks": 2, "cores_per_rank": mixed.CORES}
SIZES = (
    Size("one core", 500, 0.5, 1, {}),
    Size("four cores", 50, 1.0, 4, {"cores": 4}),
    Size("an accelerator", 20, 1.0, 1, {"cores": 1, "gpus": 1}, accelerators=1),
    Size("two nodes", 5, 2.0, 4, SPREAD, nodes=2),
)
HUNGRY = 3

#: Seconds that all of it may take before it counts as hanging.
LIMIT_S = 150.0


def test_tasks_of_all_sizes_share_the_nodes_of_a_block(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path, ring: str
) -> None:
    mixed.furnish(tmp_path / "nodes", slurm.nodes)
    endpoint = login.endpoint(
        "midway",
        configuration(
            {
                "max_workers_per_node": mixed.CORES,
                "available_accelerators": mixed.ACCELERATORS,
                "accelerators": "on_request",
                "mpi_launcher": "srun",
                "mpi_type": "pmi2",
            },
            nodes_per_block=4,
            cores_per_node=mixed.CORES,
            init_blocks=1,
            launcher={"type": "SrunLauncher"},
        ),
    )
    endpoint.start()
    soon(lambda: endpoint.status().get("managers") == 4)

    directory = str(tmp_path / "nodes")
    with executing(client, endpoint) as executor:
        # The small ones come first: whoever is larger is behind all of them.
        futures: list[cf.Future[mixed.Note]] = []
        for size in SIZES:
            executor.resource_specification = size.specification
            for seconds in size.durations():
                function = mixed.work if size.nodes == 1 else mixed.across
                futures.append(executor.submit(function, directory, size.name, seconds, ring))
        executor.resource_specification = {"memory": mixed.LIMIT}
        hungry = [executor.submit(mixed.hunger, directory) for _ in range(HUNGRY)]
        submitted = time.monotonic()
        notes = [future.result(LIMIT_S) for future in futures]

        # What is over its memory is ended alone, with the figures.
        for future in hungry:
            with pytest.raises(errors.TaskMemoryExceeded) as caught:
                future.result(LIMIT_S)
            assert caught.value.limit == mixed.LIMIT
            assert caught.value.used >= mixed.LIMIT
            assert caught.value.host in slurm.nodes

    # Each task has held its place alone (it fails if not); it was the right one, and all were used.
    sizes = {size.name: size for size in SIZES}
    for note in notes:
        mixed.check(note, sizes[note.size])
    assert {place.split("/")[0] for note in notes for place in note.places} == set(slurm.nodes)

    found = mixed.account(notes, SIZES, len(slurm.nodes) * mixed.CORES, submitted)
    record_figure("sizes", "utilisation", found.utilisation)
    assert found.utilisation >= 0.9, found
    # Nobody starves: of each size one begins, again and again.
    for name, wait in found.waits.items():
        assert wait <= 3 * found.longest, f"{name}: {found}"
