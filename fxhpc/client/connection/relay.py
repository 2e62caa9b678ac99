"""Speaks for a client on another host: passes messages between its ssh and the home's forwarder.

It runs on the home's host, as `fxhpc connect`, and ends with its ssh, whatever ends that. If the
forwarder ends, it finds or starts another, and has the client greet that one.
"""

from __future__ import annotations

import os
import platform
import select
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fxhpc.client.connection.dialing import dial
from fxhpc.errors import ForwarderError, FxhpcError
from fxhpc.forwarder.attach import ensure_forwarder
from fxhpc.protocol import relay
from fxhpc.protocol.codec import TO_CLIENT
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.messages import Bye, Reset
from fxhpc.transport import parts
from fxhpc.transport.poller import Poller
from fxhpc.transport.sockets import MAX_FRAME, MessageSocket
from fxhpc.transport.unix_sockets import PipedDealer

#: Seconds without a word from the client, which says something every five: its connection is dead,
#: and nobody has noticed. Shorter pauses are those of a laptop that sleeps for a moment.
SILENCE_S = 1800.0

_ENDING_S = 1.0  # from the end of what comes in to that of what goes out, if the connection is lost
_FORWARDER_S = 60.0  # that a forwarder is looked for which has ended
_RETRY_S = 1.0
_READ_BYTES = 1 << 18
_TURN_S = 5.0
_LIFE_S = 3.0  # without a word to a client that is just saying something


def run(mark: str, home: Path) -> int:
    """Serve the client at standard input and output; the command's exit code.

    Args:
        mark: what the client finds the beginning by.
        home: its directory.
    """
    # What else writes to standard output (a library, a warning) must not disturb the messages.
    reader, writer = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    opening = relay.Opening(platform.node(), str(home))
    try:
        up = _connect(home)
    except (FxhpcError, OSError) as error:
        known = error if isinstance(error, FxhpcError) else ForwarderError(str(error))
        opening.error, opening.text = type(known).__name__, str(known)
        _write(writer, relay.line(mark, opening))
        return 1
    try:
        _write(writer, relay.line(mark, opening))
    except OSError:
        up.close()
        return 1
    pipe = _Pipe(reader, writer)
    Relay(pipe.socket, up, home).run(pipe.is_lost)
    return 0


def _connect(home: Path) -> MessageSocket:
    return dial(home, ensure_forwarder(home))


class _Pipe:
    """Standard input and output as one socket: they may be pipes, or one that ssh's server made."""

    def __init__(self, reader: int, writer: int) -> None:
        self.socket, self._end = socket.socketpair()
        self._reader, self._writer = reader, writer
        self._is_broken = False
        for pump in (self._pump_in, self._pump_out):
            threading.Thread(target=pump, daemon=True).start()

    def is_lost(self) -> bool:
        """Now that nothing more comes in: whether nothing can go out either. Else the client itself
        has closed its end.
        """
        if self._is_broken:
            return True
        poll = select.poll()
        poll.register(self._writer, 0)  # errors and ends are told anyway
        return bool(poll.poll(_ENDING_S * 1000)) or self._is_broken

    def _pump_in(self) -> None:
        try:
            while data := os.read(self._reader, _READ_BYTES):
                self._end.sendall(data)
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            self._break()

    def _pump_out(self) -> None:
        try:
            while data := self._end.recv(_READ_BYTES):
                _write(self._writer, data)
        except OSError:
            self._break()

    def _break(self) -> None:
        self._is_broken = True
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is closed


class Relay:
    """Messages between one client and a forwarder, one after the other as they come.

    Args:
        connected: where the client is.
        up: the connection to the forwarder.
        home: where another one is found.
    """

    def __init__(self, connected: socket.socket, up: MessageSocket, home: Path) -> None:
        connected.setblocking(False)
        self._down = PipedDealer("ssh", connected, MAX_FRAME)
        self._up: MessageSocket | None = up
        self._home = home
        self._poller = Poller()
        self._is_read = False  # whether the poller looks at the forwarder's connection
        self._from_client = parts.Assembly()
        self._from_forwarder = parts.Assembly()
        self._session = self._number = 0  # of the last message of the client
        self._said = 0.0  # when it was told something
        self._has_left = False  # it has said goodbye

    def run(self, is_lost: Any) -> None:
        """Pass messages on until the client's connection ends.

        Args:
            is_lost: tells then whether it was lost. If not, the client's process has ended.
        """
        self._poller.register(self._down)
        heard = self._said = time.monotonic()
        while time.monotonic() - heard < SILENCE_S:
            self._watch_up(self._up is not None and not self._down.is_unsent)
            self._poller.poll(_TURN_S)
            if self._pass_up():
                heard = time.monotonic()
                if heard - self._said > _LIFE_S:
                    # A large message takes long on a slow line, and its heartbeats wait behind it.
                    self._say(parts.sign_of_life())
            if self._down.ended:
                if not self._has_left and not is_lost():
                    self._tell_end()
                break
            self._pass_down()
        if self._up is not None:
            self._up.close(1000)

    def _watch_up(self, wanted: bool) -> None:
        if self._up is not None and wanted != self._is_read:
            self._is_read = wanted
            (self._poller.register if wanted else self._poller.unregister)(self._up)

    def _pass_up(self) -> bool:
        """What the client says goes to the forwarder; whether it has said anything."""
        said = False
        while (frames := self._down.receive_message()) is not None:
            said = True
            if parts.is_part(frames):
                whole = self._from_client.add(frames)
                if whole is None:
                    continue
                frames = whole
            self._note(frames)
            if self._up is None:
                self._connect_again()
            elif not _send(self._up, frames):
                self._lose()
        return said

    def _pass_down(self) -> None:
        """What the forwarder says goes to the client, as fast as its connection takes it."""
        while self._up is not None and not self._down.is_unsent:
            frames = self._up.receive_message()
            if frames is None:
                if self._up.ended:
                    self._lose()
                return
            if parts.is_part(frames):
                whole = self._from_forwarder.add(frames)
                if whole is None:
                    continue
                frames = whole
            self._say(frames)

    def _say(self, frames: Sequence[bytes]) -> None:
        self._said = time.monotonic()
        _send(self._down, frames)

    def _lose(self) -> None:
        """The forwarder is gone. Another one is looked for when the client says something: if it
        was told that this one ends, it has nothing more to say.
        """
        if self._up is not None:
            self._watch_up(False)
            self._up.close()
            self._up = None

    def _connect_again(self) -> None:
        deadline = time.monotonic() + _FORWARDER_S
        while True:
            try:
                self._up = _connect(self._home)
                break
            except (FxhpcError, OSError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)
        # What was said meanwhile is said again, to the new one.
        self._say(TO_CLIENT.encode(Envelope(self._session, 0, Reset())))

    def _note(self, frames: Sequence[bytes]) -> None:
        try:
            header = msgspec.msgpack.decode(frames[0], type=tuple[int, int, msgspec.Raw])
            self._session, self._number, message = header
            msgspec.msgpack.decode(message, type=Bye)
            self._has_left = True
        except (msgspec.DecodeError, IndexError):
            pass  # another message; or one that nobody can read, which the forwarder counts

    def _tell_end(self) -> None:
        """The client's process has ended without a word: its work ends too."""
        if self._up is not None:
            bye = Bye("its process has ended")
            _send(self._up, TO_CLIENT.encode(Envelope(self._session, self._number + 1, bye)))


def _send(to: MessageSocket, frames: Sequence[bytes]) -> bool:
    """Send a message: between hosts, in parts if it is large."""
    if to.crosses_hosts and parts.is_large(frames):
        return all(to.send_message(part) for part in parts.split(frames))
    return to.send_message(frames)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
