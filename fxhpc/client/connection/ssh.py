"""The user's own ssh, started for a client: the relay at its other end, or why there is none."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from fxhpc import errors, forks
from fxhpc.client.connection.address import SshAddress
from fxhpc.protocol import relay
from fxhpc.protocol.versions import OLDEST_PROTOCOL, PROTOCOL
from fxhpc.version import __version__

#: The environment variable with the command in the place of `ssh`, and its options.
SSH_VARIABLE = "FXHPC_SSH"

#: Seconds from the start of ssh to the relay's first line, where nobody is asked for anything.
OPENING_S = 90.0

_LOOK_S = 0.1
_STDERR_LINES = 20
_ASKED_S = 10.0  # for ssh to tell of its configuration
_NOT_FOUND, _NOT_RUNNABLE, _SSH_FAILED = 127, 126, 255
# Ctrl-C is for the client, whose connection is to last. An ssh that is started with the signal
# ignored keeps it so; in a session of its own it could not ask for a passphrase.
_IGNORING = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "fxhpc")

#: What ssh says if somebody has to prove who they are.
_REFUSALS = (
    "permission denied",
    "authentication fail",
    "no more authentication methods",
    "too many authentication",
)


#: What a relay may say that it ends with; what is none of them may mend itself.
_KINDS: dict[str, type[errors.ForwarderError]] = {
    kind.__name__: kind
    for kind in (errors.ForwarderError, errors.HomeError, errors.StoreFull, errors.StoreTooNew)
}


class AuthenticationNeeded(errors.ForwarderUnreachable):
    """ssh was not let in without asking somebody."""


class Ssh:
    """One ssh, and the relay that it has started.

    Args:
        address: where it leads.
        mark: 32 hexadecimal digits, which the relay repeats; the same as long as the client lives.
        may_ask: whether ssh may ask for passphrases, codes, and about unknown hosts.

    Raises:
        ForwarderUnreachable: there is no ssh, or it cannot be started.
    """

    def __init__(self, address: SshAddress, mark: str, may_ask: bool) -> None:
        self._address = address
        self._mark = mark
        self._may_ask = may_ask
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        options = _options(address, may_ask)
        command = [*_base(), *options, "--", address.host, _remote(address, mark)]
        try:
            with forks.none:  # a child would keep the ends open
                self.socket, other = socket.socketpair()
                end = other.fileno()
                try:
                    self._process = subprocess.Popen(
                        [*_IGNORING, *command], stdin=end, stdout=end, stderr=subprocess.PIPE
                    )
                except BaseException:
                    self.socket.close()
                    raise
                finally:
                    other.close()
        except OSError as error:
            raise errors.ForwarderUnreachable(
                str(address), f"ssh cannot be started: {error.strerror}"
            ) from None
        self._reader = threading.Thread(target=self._read_stderr, name="fxhpc-ssh", daemon=True)
        self._reader.start()

    def open(self, is_given_up: Callable[[], bool]) -> relay.Opening:
        """Wait until the relay speaks.

        Args:
            is_given_up: asked ten times a second: whether nobody waits for it any more.

        Raises:
            ForwarderUnreachable: it never will; the text has what ssh says.
            FxhpcError: it says that the home cannot be used.
        """
        self.socket.settimeout(_LOOK_S)
        deadline = time.monotonic() + OPENING_S
        said = b""
        while True:
            if is_given_up():
                raise errors.ForwarderUnreachable(str(self._address), "it was given up")
            if not self._may_ask and time.monotonic() > deadline:
                raise self.unreachable(f"there was no answer within {OPENING_S:.0f} s")
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            said += data
            if not data or len(said) > relay.MOST_BYTES:
                raise self._why(said)
            try:
                opening = relay.find(self._mark, said)
            except msgspec.DecodeError as error:
                raise errors.VersionMismatch(
                    f"the fxhpc at {self._address} speaks in a way that this one, {__version__}, "
                    f"does not know ({error}): install the same version on both sides"
                ) from None
            if opening is not None:
                self._check(opening)
                self.socket.setblocking(False)
                return opening

    def _check(self, opening: relay.Opening) -> None:
        if opening.oldest_protocol > PROTOCOL or opening.protocol < OLDEST_PROTOCOL:
            raise errors.VersionMismatch(
                f"this is fxhpc {__version__} (protocol {PROTOCOL}), at {self._address} is fxhpc "
                f"{opening.version} (protocol {opening.protocol}): install the same version on "
                f"both sides"
            )
        if opening.error:
            kind = _KINDS.get(opening.error, errors.ForwarderUnreachable)
            if issubclass(kind, errors.FuncXUnreachable):
                raise kind(str(self._address), opening.text)
            raise kind(f"on {opening.host}: {opening.text}")

    # --- its end --------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it at once: the relay then knows that the connection is lost, and no more."""
        with suppress(OSError):
            self._process.kill()

    def end(self, seconds: float) -> None:
        """Its connection is closed: have it end within this time, and bury it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)

    def leave_to_parent(self) -> None:
        """This is a forked child: without its copy of the end, the parent's death is seen."""
        with suppress(OSError):
            os.close(self.socket.detach())

    # --- what it says ---------------------------------------------------------------------------

    def last_words(self) -> str:
        """What ssh, or the shell at its other end, wrote to standard error last."""
        lines = [line for line in self._stderr if line]
        return "; ".join(lines[-4:])

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._stderr.append(line.decode(errors="replace").strip()[:500])

    def _why(self, said: bytes) -> errors.ForwarderUnreachable:
        """The error for an ssh that has ended, or that leads to something else."""
        try:
            code = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = 0
        self._reader.join(0.5)
        words = self.last_words()
        if code == _SSH_FAILED and any(word in words.lower() for word in _REFUSALS):
            return self._not_let_in(words)
        if code == _SSH_FAILED and "host key verification failed" in words.lower():
            return self.unreachable(
                f"ssh does not know or does not trust the host's key ({words}). Run `{self._plain}`"
                f" in a terminal, compare the fingerprint with what your site publishes, and try "
                f"again"
            )
        if code == _SSH_FAILED:
            return self.unreachable(f"ssh says: {words or 'nothing'}")
        shell = words or _tail(said) or "nothing"
        if code in (_NOT_FOUND, _NOT_RUNNABLE) or "not found" in shell.lower():
            return self.unreachable(
                f"the shell there cannot run {self._address.command!r} ({shell}): shells that ssh "
                f"starts read other files than yours. Say where it is: "
                f"{self._address}?command=/path/of/venv/bin/fxhpc"
            )
        return self.unreachable(
            f"{self._address.command!r} there ended with exit code {code}, and said: {shell}. See "
            f"that it is this version of fxhpc, {__version__}: `{self._plain} "
            f"{shlex.quote(_command(self._address) + ' version')}`"
        )

    def _not_let_in(self, words: str) -> errors.ForwarderUnreachable:
        if self._may_ask:
            return AuthenticationNeeded(
                str(self._address), f"ssh was not let in ({words}). See that `{self._plain}` works"
            )
        return AuthenticationNeeded(
            str(self._address),
            f"ssh was not let in without asking ({words}), and nobody is asked in the background. "
            f"Make FuncXClient({str(self._address)!r}) in a terminal, which asks, and others go on "
            f"by themselves; or have one connection that stays: `ssh-add`, or `ControlMaster auto`"
            f", `ControlPath ~/.ssh/%C` and `ControlPersist 12h` in ~/.ssh/config, and then "
            f"`{self._plain} true`",
        )

    def unreachable(self, why: str) -> errors.ForwarderUnreachable:
        """The error that says why there is no relay."""
        return errors.ForwarderUnreachable(str(self._address), why)

    @property
    def _plain(self) -> str:
        """What a person types to try it."""
        return shlex.join([*_base(), *_where(self._address), self._address.host])


def can_ask() -> bool:
    """Whether ssh can ask somebody: there is a terminal, and it is ours to read from."""
    if os.environ.get("SSH_ASKPASS"):
        return True  # a window does it
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def has_master(address: SshAddress) -> bool:
    """Whether a connection of the user's is there that ssh would share (ControlMaster)."""
    try:
        return _asked(address, "-O", "check")[0] == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _asked(address: SshAddress, *options: str) -> tuple[int, str]:
    """What ssh says of itself and its configuration, without a connection: its exit code, too."""
    with forks.none:  # a child would keep the pipe open, whose end is waited for
        process = subprocess.Popen(
            [*_base(), *_where(address), *options, "--", address.host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    try:
        told, _ = process.communicate(timeout=_ASKED_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, told.decode(errors="replace")


def _base() -> list[str]:
    given = os.environ.get(SSH_VARIABLE, "")
    try:
        return shlex.split(given) or ["ssh"]
    except ValueError as error:
        raise errors.UsageError(
            f"{SSH_VARIABLE} is {given!r}, which is no command ({error}); set it to one, such as "
            f"'ssh -F FILE', or unset it"
        ) from None


def _where(address: SshAddress) -> list[str]:
    port = ["-p", str(address.port)] if address.port else []
    return [*port, *(["-l", address.user] if address.user else [])]


def _options(address: SshAddress, may_ask: bool) -> list[str]:
    """Ours, which do not stand in the way of the user's."""
    options = ["-T", "-x", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"]
    configured = _configured(address)
    if configured.get("serveraliveinterval", "0") == "0":
        options += ["-o", "ServerAliveInterval=15"]
    if configured.get("connecttimeout", "none") == "none":
        options += ["-o", "ConnectTimeout=30"]
    if not may_ask:
        options += ["-o", "BatchMode=yes"]
    return [*options, *_where(address)]


def _configured(address: SshAddress) -> dict[str, str]:
    """What the user's configuration says of the host; nothing, if ssh does not tell."""
    try:
        _, told = _asked(address, "-G")
    except FileNotFoundError as error:
        raise errors.ForwarderUnreachable(
            str(address), f"there is no command {error.filename!r} here: install OpenSSH's client"
        ) from None
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split(" ", 1) for line in told.splitlines())
    return {pair[0].lower(): pair[1] for pair in pairs if len(pair) == 2}


def _remote(address: SshAddress, mark: str) -> str:
    """What the shell there runs."""
    home = f" --home {shlex.quote(address.home)}" if address.home else ""
    return f"{_command(address)} connect {mark}{home}"


def _command(address: SshAddress) -> str:
    """A path is one word, whatever is in it; all else is for the shell to read."""
    command = address.command
    if command.startswith("/"):
        return shlex.quote(command)
    if command.startswith("~/"):
        return "~/" + shlex.quote(command[2:])
    return command


def _tail(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip()[:200] for line in lines[-3:])
