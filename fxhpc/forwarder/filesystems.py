"""What kind of file system a path lies on: one of a network loses what was not synchronised."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import psutil

#: Types whose server may forget acknowledged writes when it, or this host, goes down.
NETWORK_TYPES = frozenset(
    {
        "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs",
        "panfs", "ceph", "fuse.ceph", "fuse.glusterfs", "orangefs", "pvfs2", "9p",
    }
)  # fmt: skip

_MOUNTS = "/proc/self/mountinfo"


def network_type(path: str, mounts: str = _MOUNTS) -> str:
    """The type of the file system that `path` lies on if it is one of a network, else "".

    Args:
        mounts: where Linux lists the mounts of this process.
    """
    path = os.path.realpath(path)
    best, kind = "", ""
    for point, type_ in _mounts(mounts):
        # Of several at one place the last covers the others.
        if len(point) >= len(best) and (path == point or path.startswith(point.rstrip("/") + "/")):
            best, kind = point, type_
    return kind if kind in NETWORK_TYPES else ""


def _mounts(listing: str) -> Iterator[tuple[str, str]]:
    """Mount points, and the types of what is mounted there."""
    try:
        with open(listing, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:  # not Linux
        for found in psutil.disk_partitions(all=True):
            yield found.mountpoint, found.fstype
        return
    for line in lines:
        before, _, after = line.partition(" - ")  # between them are fields of any number
        fields, types = before.split(), after.split()
        if len(fields) > 4 and types:
            yield _unescaped(fields[4]), types[0]


def _unescaped(text: str) -> str:
    """Blanks and backslashes stand there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
