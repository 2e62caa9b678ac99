"""Which accelerators each worker of a node sees: a subset of what its batch job was given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

CUDA, ROCR, HIP, ZE = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
#: Whose lists count where a library's own variable is not set, the most certain first. Slurm's
#: number the node's devices, and a job that is confined to some counts these from 0.
_GIVEN = (CUDA, ROCR, HIP, ZE, "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
#: For Intel's driver an empty list means all devices, and numbers of devices that are not there
#: are passed over: a list of one of these shows none, to Level Zero and to OpenCL.
_NO_SUCH_DEVICE = "9999"
_NONE = {"", "NoDevFiles", "-1", "none", "void", _NO_SUCH_DEVICE}


class Devices(msgspec.Struct, frozen=True):
    """What the machine itself shows of its devices."""

    nvidia: int = 0  # how many there are; 0: none, or that is not known
    amd: bool = False


def machine_devices() -> Devices:
    """Look at the drivers' files."""
    try:
        nvidia = len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        nvidia = 0
    return Devices(nvidia, amd=os.path.exists("/dev/kfd") and not nvidia)


def device_variables(
    wanted: Sequence[str], environ: Mapping[str, str], devices: Devices
) -> list[dict[str, str]]:
    """For each accelerator that this job has, the variables of a worker that is to see it alone.

    Args:
        wanted: for each worker a number, counted from 0 among what the job was given; several of
            them with commas; or a name (a UUID, a MIG device), which is taken as it is.

    Numbers that are too high for the job are left out. But as in HTEX, if there are just
    as many wanted for each of NVIDIA's devices, that many workers share one.
    """
    everybodys = items_of(wanted, environ, devices)
    return [seen for items in everybodys if (seen := visible(items, environ, devices))]


def items_of(
    wanted: Sequence[str], environ: Mapping[str, str], devices: Devices
) -> list[list[str]]:
    """For each worker the accelerators that it is to see, as they are wanted; without those that
    the job has not. See `device_variables`.
    """
    wanted = _shared(wanted, len(_listed(environ, CUDA)) or devices.nvidia)
    everybodys = [[item.strip() for item in text.split(",") if item.strip()] for text in wanted]
    return [items for items in everybodys if visible(items, environ, devices)]


def visible(
    items: Sequence[str], environ: Mapping[str, str], devices: Devices
) -> dict[str, str] | None:
    """The variables of a worker that sees just these; None if the job has not all of them."""
    job = next((found for name in _GIVEN if (found := _listed(environ, name))), [])
    seen: dict[str, str] = {}
    for variable in (CUDA, ROCR, ZE):
        listed = _listed(environ, variable) or job
        mine = [_translated(item, listed) for item in items]
        if not mine or None in mine:
            return None
        seen[variable] = ",".join(map(str, mine))
    # HIP counts among what ROCR leaves, and takes CUDA's variable for its own.
    among = ",".join(map(str, range(len(items))))
    if devices.amd:
        seen[CUDA] = seen[HIP] = among
    elif HIP in environ:
        seen[HIP] = among
    seen["ZE_ENABLE_PCI_ID_DEVICE_ORDER"] = "1"
    return seen


def hidden() -> dict[str, str]:
    """The variables of a worker that is to see no accelerator."""
    return {CUDA: "", ROCR: "", HIP: "-1", ZE: _NO_SUCH_DEVICE}


def _listed(environ: Mapping[str, str], name: str) -> list[str]:
    items = [item.strip() for item in environ.get(name, "").split(",")]
    return [] if items[0] in _NONE else items


def _translated(item: str, listed: list[str]) -> str | None:
    """What the job calls its device of this number; None if it has not so many."""
    number, dot, tile = item.partition(".")
    if not number.isdigit() or (dot and not tile.isdigit()) or not listed:
        return item
    if dot and any("." in one for one in listed):
        return item if item in listed else None  # a list of tiles: named as they are there
    if int(number) >= len(listed):
        return None
    return f"{listed[int(number)]}{dot}{tile}"


def _shared(wanted: Sequence[str], devices: int) -> Sequence[str]:
    count = len(wanted)
    in_order = [*wanted] == [str(number) for number in range(count)]
    if in_order and devices and count > devices and count % devices == 0:
        return [str(number // (count // devices)) for number in range(count)]
    return wanted
