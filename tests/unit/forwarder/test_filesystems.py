"""Which homes lie on a network's file system, as the kernel's list of mounts tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.forwarder.filesystems import network_type

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /home rw,relatime shared:2 master:1 - nfs4 server:/home rw,vers=4.2
24 22 0:6 / /lustre/a\040b rw - lustre 10.0.0.1@o2ib:/scratch rw
25 23 0:7 / /home/local rw - xfs /dev/sdb1 rw
26 22 0:8 / /over rw - ext4 /dev/sdc1 rw
27 22 0:9 / /over rw - fuse.sshfs host: rw
a line of something else
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/user/.fxhpc", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/user", ""),
        ("/home/local/.fxhpc", ""),
        ("/lustre/a b/home", "lustre"),
        ("/over/x", "fuse.sshfs"),
        ("/var/x", ""),
    ],
)
def test_the_innermost_mount_decides(path: str, expected: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_type(path, str(mounts)) == expected


def test_without_a_list_of_mounts_the_system_is_asked(tmp_path: Path) -> None:
    assert network_type("/", str(tmp_path / "missing")) == network_type("/")
