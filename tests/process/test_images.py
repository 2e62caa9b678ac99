"""Seeds in containers, started by stand-ins for the commands: these run what is to run inside in no
container, but with a path of their own.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fxhpc.manager.channel import Channel, Closed
from fxhpc.manager.events import WorkerGone
from fxhpc.manager.seeds import images as images_module
from fxhpc.manager.seeds.images import Images
from fxhpc.manager.seeds.seeds import Seeds
from fxhpc.protocol.containers import Container
from fxhpc.protocol.pool import SeedSpec
from tests.waiting import eventually

IMAGE = Container("docker", "an image")

#: Notes its words, then runs what follows the image.
_COMMAND = """\
    case $1 in
    --version) echo 24.0.5; exit 0 ;;
    info) echo '[name=seccomp]'; exit 0 ;;
    stop | rm) exit 0 ;;
    esac
    for word in "$@"; do printf '%s\\n' "$word"; done >> {words}
    while [ "$1" != "{image}" ]; do shift; done
    shift
    exec env -i PATH={path} "$@"
"""


class Host:
    """A host with a stand-in for docker, and seeds in what it starts."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words = path / "words"
        self.bin, self.inner = path / "bin", path / "inner"
        for folder in (self.bin, self.inner):
            folder.mkdir()
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        root = Path(images_module.__file__).parents[2]
        python = f"PYTHONPATH={shlex.quote(str(root))} exec {sys.executable}"
        self.write(self.inner / "python3", f'{python} "$@"')
        values = {"words": shlex.quote(str(self.words)), "image": IMAGE.image}
        path_inside = f"{shlex.quote(str(self.inner))}:/usr/bin:/bin"
        self.write(self.bin / "docker", _COMMAND.format(**values, path=path_inside))
        self.selector = selectors.DefaultSelector()
        self.lost: list[tuple[WorkerGone, bool]] = []
        self.now = 1000.0
        spec = SeedSpec(str(path), [], {})
        self.first, self.there = images_module.make_pair()
        self.seeds = Seeds(self.selector, self._hear, spec, self.first, spec, {})

    def write(self, path: Path, script: str) -> None:
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        path.chmod(0o755)

    @property
    def images(self) -> Images:
        return self.seeds._images

    def until(self, condition: Callable[[], object]) -> None:
        """Let the selector's functions be called until this is so."""

        def turn() -> object:
            for key, mask in self.selector.select(0.1):
                key.data(mask)
            return condition()

        eventually(turn, every=0)

    def _hear(self, seed: Channel, mask: int) -> None:
        try:
            list(self.seeds.heard(seed, mask))
        except Closed:
            if not self.seeds.is_ending(seed, self.now):
                self.lost.append(self.seeds.lost(seed))

    def failed(self) -> WorkerGone:
        """How a worker ended whose container did not come up."""
        self.seeds.of(IMAGE)
        self.until(lambda: self.lost)
        ((gone, are_all),) = self.lost
        assert not are_all
        assert not gone.seed_lost
        return gone


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path, monkeypatch)
    yield host
    host.images.close()
    assert host.images.channels() == []
    host.first.close()
    host.there.close()
    host.selector.close()


def test_a_seed_comes_up_and_ends_with_its_channel(host: Host) -> None:
    seed = host.seeds.of(IMAGE)
    assert host.seeds.of(IMAGE) is seed
    assert host.seeds.is_inside(seed)
    (inside,) = host.images._inside.values()
    assert inside._directory is not None
    folder = inside._directory.path
    assert os.stat(folder).st_mode & 0o777 == 0o700
    host.until(lambda: inside.seed)
    assert os.readlink(f"/proc/{inside.seed}/exe") == os.path.realpath(sys.executable)
    assert not os.path.exists(folder)  # nobody else is to connect
    words = host.words.read_text().splitlines()
    assert f"{folder}:{folder}" in words
    assert "--cpuset-cpus" in words
    host.images.close()
    assert inside.process.returncode == 0
    assert not os.path.exists(f"/proc/{inside.seed}")


def test_who_does_not_begin_is_told_of_with_its_last_words(host: Host) -> None:
    host.write(host.bin / "docker", "echo no such image >&2; exit 125")
    gone = host.failed()
    assert gone.exit_code == 125
    assert "could not be used" in gone.stderr or "no such image" in gone.stderr
    assert "nothing is run without it" in gone.stderr


@pytest.mark.parametrize("ends", [True, False])
def test_nobody_waits_for_the_last_words_of_a_seed_that_died_at_once(
    host: Host, tmp_path: Path, ends: bool
) -> None:
    """What has started it takes its time to end: meanwhile the manager has others to care for."""
    over = tmp_path / "over"
    script = (host.bin / "docker").read_text().removeprefix("#!/bin/sh\n")
    linger = f"; while [ ! -e {shlex.quote(str(over))} ]; do :; done; echo sorry >&2; exit 7"
    host.write(host.bin / "docker", script.replace("exec env", "env").rstrip() + linger)
    seed = host.seeds.of(IMAGE)
    (inside,) = host.images._inside.values()
    host.until(lambda: inside.seed)
    os.kill(inside.seed, signal.SIGKILL)
    host.until(lambda: inside.told_by)
    assert not host.lost
    assert host.seeds.idle(host.now) == []
    if ends:
        over.touch()
        host.until(lambda: host.lost)
        ((gone, are_all),) = host.lost
        assert gone.exit_code == 7
        assert "sorry" in gone.stderr
    else:
        assert host.seeds.idle(host.now + images_module.WORDS_S) == [seed]
        gone, are_all = host.seeds.lost(seed)
        assert gone.exit_code == 1
        over.touch()
    assert not are_all
    assert not gone.seed_lost


def test_an_image_without_python(host: Host) -> None:
    (host.inner / "python3").unlink()
    for tool in ("hostname", "uname", "rm", "id"):
        (host.inner / tool).symlink_to(f"/usr/bin/{tool}")
    script = (host.bin / "docker").read_text().replace(":/usr/bin:/bin", "")
    host.write(host.bin / "docker", script.removeprefix("#!/bin/sh\n"))
    gone = host.failed()
    assert gone.exit_code == 78
    assert "there is no python3 on the path in the docker container of an image" in gone.stderr


def test_an_image_whose_python_has_no_fxhpc(host: Host) -> None:
    host.write(host.inner / "python3", f'exec {sys.executable} -I -S "$@"')
    gone = host.failed()
    assert gone.exit_code == 78
    assert "in the docker container of an image on node" in gone.stderr
    assert "has no fxhpc. Use an image that has fxhpc" in gone.stderr


def test_an_image_with_another_fxhpc(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "__version__", "99.1")
    gone = host.failed()
    assert gone.exit_code == 78
    assert "and the manager outside 99.1. Use an image that has fxhpc 99.1" in gone.stderr


def test_a_directory_that_nobody_can_be_told_of(host: Host) -> None:
    host.images._spec.cwd = "/work:here"
    with pytest.raises(OSError, match="must see '/work:here'"):
        host.seeds.of(IMAGE)
    assert host.images.channels() == []


def test_containers_that_nobody_uses_end(host: Host) -> None:
    seed = host.seeds.of(IMAGE)
    assert host.seeds.idle(1000.0) == []
    host.seeds.left(seed, 1000.0)
    assert host.seeds.idle(1000.0 + images_module.KEEP_S - 1) == []
    assert host.seeds.idle(1000.0 + images_module.KEEP_S) == [seed]
    gone, are_all = host.seeds.lost(seed)
    assert not are_all
    assert gone.worker == 0


def test_what_is_left_to_be_waited_for_is_buried(host: Host) -> None:
    """As podman leaves its conmon: to whoever adopts orphans, as managers do."""
    orphan = os.fork()
    if orphan == 0:
        os._exit(0)
    seed = host.seeds.of(IMAGE)
    (inside,) = host.images._inside.values()
    now = [0.0]

    def buried() -> bool:
        now[0] += images_module.BURY_S
        host.seeds.idle(now[0])
        return not os.path.exists(f"/proc/{orphan}")

    eventually(buried)
    host.seeds.lost(seed)
    assert inside.process.wait(10) is not None
