"""What a node has for tasks of all sizes, and what workers that are made for them find."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxhpc.manager.resources import node as node_module
from fxhpc.manager.resources.accelerators import Devices
from fxhpc.manager.resources.node import Node, examine, places_of
from fxhpc.manager.resources.pinning import Seats, seats
from fxhpc.manager.resources.places import Place
from fxhpc.protocol.needs import NO_NEEDS, UNIT, Cell, Needs, Room, Size
from fxhpc.protocol.pool import ManagerSpec

GB = 2**30


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 8 cores and 32 GB."""
    monkeypatch.setattr(node_module, "allowed_cores", lambda: list(range(8)))
    monkeypatch.setattr(node_module, "machine_cores", lambda: 8)
    monkeypatch.setattr(node_module, "usable_cores", lambda environ: 8)
    monkeypatch.setattr(node_module, "usable_memory", lambda environ, cores: 32 * GB)


def look(environ: dict[str, str] | None = None, **spec: Any) -> Node:
    fields: dict[str, Any] = {"endpoint": b"", "workers": 0, "address": "x", "manager": "m"} | spec
    return examine(ManagerSpec(**fields), environ or {}, 0.0, Devices(nvidia=4))


def leased(node: Node, needs: Needs, environ: dict[str, str] | None = None) -> Place:
    lease = Room(node.size).take(needs)
    assert lease is not None
    return places_of(node, environ or {}).lease(1, lease, needs)


def cells(node: Node) -> list[tuple[int, tuple[int, ...], int]]:
    return [(cell.cores, cell.devices, cell.share) for cell in node.size.cells]


def test_a_cell_is_what_a_worker_has() -> None:
    assert cells(look()) == [(UNIT, (), UNIT)] * 8
    assert cells(look(cores_per_worker=2.5)) == [(2500, (), UNIT)] * 3
    assert cells(look(affinity="block", max_workers=2)) == [(4 * UNIT, (), UNIT)] * 2
    assert cells(look(workers=3, watch_pid=1)) == [(UNIT, (), UNIT)] * 3


def test_memory_is_promised_but_for_what_fxhpc_takes() -> None:
    assert look().size.memory == int(0.95 * 32 * GB)


def test_accelerators_belong_to_cells_alone_shared_or_on_request() -> None:
    assert cells(look(accelerators=["0", "1,2"])) == [(UNIT, (0,), UNIT), (UNIT, (1, 2), UNIT)]
    shared = look(accelerators=[str(number) for number in range(8)])
    assert [cell.devices for cell in shared.size.cells] == [(n // 2,) for n in range(8)]
    assert {cell.share for cell in shared.size.cells} == {UNIT // 2}
    assert shared.size.devices == 4
    on_request = look(accelerators=["0", "1"], accelerators_on_request=True)
    assert cells(on_request) == [(UNIT, (), UNIT)] * 8
    assert on_request.size.devices == 2
    assert on_request.places[0].environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_lease_s_worker_is_bound_and_has_threads_and_sees_its_accelerators() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    node = look(environ, affinity="block", accelerators=["0", "1", "2", "3"], max_workers=4)
    place = leased(node, Needs(cores=4 * UNIT, gpus=2 * UNIT), environ)
    assert len(place.cores) == 4
    assert place.environ["OMP_NUM_THREADS"] == "4"
    assert place.environ["GOMP_CPU_AFFINITY"] == ",".join(map(str, place.cores))
    assert place.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert place.environ["FXHPC_CORES"] == "4"
    assert place.environ["FXHPC_GPUS"] == "2"
    assert place.environ["PARSL_WORKER_RANK"] == "4", "no other worker's"


def test_who_asks_for_no_accelerator_sees_none() -> None:
    node = look(accelerators=["0", "1"])
    environ = leased(node, Needs(cores=UNIT, gpus=0)).environ
    hiding = {"CUDA": "", "ROCR": "", "HIP": "-1"}
    assert {name: environ[f"{name}_VISIBLE_DEVICES"] for name in hiding} == hiding
    assert environ["ZE_AFFINITY_MASK"] == "9999", "empty would be all of Intel's"
    assert leased(node, Needs(environ=(("A", "b"),))).environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_its_own_variables_come_last_and_a_user_s_threads_stay() -> None:
    node = look({"OMP_NUM_THREADS": "3"})
    assert "OMP_NUM_THREADS" not in leased(node, Needs(cores=2 * UNIT)).environ
    needs = Needs(cores=2 * UNIT, environ=(("FXHPC_CORES", "x"), ("OMP_NUM_THREADS", "5")))
    environ = leased(look(), needs).environ
    assert (environ["OMP_NUM_THREADS"], environ["FXHPC_CORES"]) == ("5", "x")


def test_ranks_are_bound_by_who_starts_them() -> None:
    node = look(affinity="block")
    needs = Needs(cores=4 * UNIT, ranks=2, ranks_per_node=2, cores_per_rank=2, nodes=1)
    environ = leased(node, needs).environ
    assert environ["OMP_NUM_THREADS"] == "2"
    assert "GOMP_CPU_AFFINITY" not in environ


def test_ranks_of_workers_are_used_again() -> None:
    node = look()
    places = places_of(node, {})
    room = Room(node.size)
    ranks = []
    for worker in (11, 12, 13):
        lease = room.take(Needs(cores=2 * UNIT))
        assert lease is not None
        ranks.append(places.lease(worker, lease, NO_NEEDS).environ["PARSL_WORKER_RANK"])
    assert ranks == ["8", "9", "10"]
    places.free(12)
    lease = room.take(Needs(cores=UNIT))
    assert lease is not None
    assert places.lease(14, lease, NO_NEEDS).environ["PARSL_WORKER_RANK"] == "9"


#: Of a job that has the machine's cores alone.
ALONE = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8", "FXHPC_BLOCK": "1"}


def bound(needs: Needs, environ: dict[str, str] = ALONE, **spec: Any) -> list[int]:
    return leased(look(environ, **({"own_cores": True} | spec)), needs).cores


def test_who_asks_for_cores_is_bound_where_a_job_has_its_cores_alone() -> None:
    two = Needs(cores=2 * UNIT)
    node = look(ALONE, own_cores=True)
    places, room = places_of(node, {}), Room(node.size)
    had: list[list[int]] = []
    for worker in range(4):
        lease = room.take(two)
        assert lease is not None
        place = places.lease(worker, lease, two)
        assert place.environ["GOMP_CPU_AFFINITY"] == ",".join(map(str, place.cores))
        had.append(place.cores)
    assert had == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [place.cores for place in node.places] == [[]] * 8, "ordinary workers are not"
    assert bound(two, cores_per_worker=1.5) == [0, 1]
    assert bound(two, cores_per_worker=0.5) == [0, 1]
    assert bound(two, max_workers=2) == [0, 1], "no more than it asks for"


def test_who_asks_for_no_cores_or_has_whole_nodes_is_not_bound() -> None:
    assert bound(Needs(memory=GB)) == []
    assert bound(Needs(environ=(("A", "b"),))) == []
    assert bound(Needs(cores=UNIT, nodes=2)) == []


def test_nobody_is_bound_to_cores_that_others_may_have() -> None:
    two = Needs(cores=2 * UNIT)
    assert bound(two, own_cores=False) == [], "a process of a shared machine"
    assert bound(two, affinity="none") == [], "it was said so"
    assert bound(two, {**ALONE, "SLURM_JOB_ID": ""}) == [], "no job"
    assert bound(two, {**ALONE, "FXHPC_BLOCK": ""}) == [], "started by hand"
    assert bound(two, {**ALONE, "SLURM_CPUS_ON_NODE": "4"}) == [], "not confined to its four"
    assert bound(two, workers=9) == [], "more workers than cores"
    assert bound(two, {**ALONE, "SLURM_CPUS_ON_NODE": "9"}) == [], "the node has not so many"


WANTED = st.lists(
    st.tuples(st.sampled_from([250, 500, 1000, 2000, 3000, 6000]), st.booleans()), max_size=12
)


@given(wanted=WANTED, each=st.integers(1, 4))
def test_whole_cores_are_had_alone_if_no_parts_are_asked_for(
    wanted: list[tuple[int, bool]], each: int
) -> None:
    size = Size(tuple(Cell(each * UNIT) for _ in range(3)))
    seated = Seats(seats([each * UNIT] * 3, range(3 * each)))
    room = Room(size)
    leases: dict[int, Any] = {}
    bound: dict[int, list[int]] = {}
    for worker, (amount, ends) in enumerate(wanted):
        lease = room.take(Needs(cores=amount))
        if lease is None:
            continue
        leases[worker], bound[worker] = lease, seated.take(worker, lease)
        assert len(bound[worker]) * UNIT >= amount
        if ends:
            room.give_back(leases.pop(worker))
            del bound[worker]
            seated.give_back(worker)
    if all(amount % UNIT == 0 for amount, _ in wanted):
        taken = [core for cores in bound.values() for core in cores]
        assert len(taken) == len(set(taken))
    for worker, lease in leases.items():
        room.give_back(lease)
        seated.give_back(worker)
    assert seated.take(99, Room(size).take(Needs(cores=3 * each * UNIT)) or room.cell(0)) == list(
        range(3 * each)
    )
