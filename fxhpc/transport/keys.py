"""CURVE key pairs in files of their own: made once, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import Literal

import zmq

from fxhpc.errors import HomeError

#: What a key may be used for. Each acceptor's allow-list names keys of one role only.
Role = Literal["client", "endpoint", "forwarder", "manager"]

#: From this version on, wheels of pyzmq bring a libsodium with the processor's instructions.
_FAST_PYZMQ = (27, 3, 0)


@dataclass(frozen=True)
class KeyPair:
    """A public and a secret CURVE key, each 40 characters of Z85."""

    role: Role
    public: bytes
    secret: bytes = field(repr=False)


def new_keys(role: Role) -> KeyPair:
    """A fresh pair, in no file."""
    public, secret = zmq.curve_keypair()
    return KeyPair(role, public, secret)


def create_keys(path: str | os.PathLike[str], role: Role) -> KeyPair:
    """Make a pair and write it to a new file with mode 0600.

    The file appears whole or not at all, so that others may wait for it.

    Raises:
        FileExistsError: there is such a file already; it is left as it is.
    """
    target = os.fspath(path)
    keys = new_keys(role)
    public, secret = keys.public.decode(), keys.secret.decode()
    text = f"fxhpc-key 1\nrole {role}\npublic {public}\nsecret {secret}\n"
    draft = f"{target}.{secrets.token_hex(8)}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, target)
    finally:
        os.unlink(draft)
    return keys


def load_keys(path: str | os.PathLike[str], role: Role) -> KeyPair:
    """Read a pair that `create_keys` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        HomeError: others could read or replace it, or it holds no key of this role.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HomeError(
            f"the key file {name} cannot be read: {error.strerror}; see that it is yours "
            f"(`ls -l`), or move it away, and a new one is made"
        ) from None
    try:
        _check_key_file(name, os.fstat(descriptor))
        data = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    fields = dict(line.partition(" ")[::2] for line in data.decode(errors="replace").splitlines())
    public, secret = fields.get("public", "").encode(), fields.get("secret", "").encode()
    try:
        genuine = zmq.curve_public(secret) == public
    except (zmq.ZMQError, ValueError):
        genuine = False
    if fields.get("fxhpc-key") != "1" or not genuine:
        raise HomeError(
            f"{name} holds no key that this version of fxhpc can read; move it away, and a new "
            f"one is made"
        )
    if fields.get("role") != role:
        raise HomeError(
            f"{name} holds a key for the role {fields.get('role')!r}, not {role!r}: a copy of "
            f"another file, perhaps; move it away, and a new one is made"
        )
    return KeyPair(role, public, secret)


def load_or_create_keys(path: str | os.PathLike[str], role: Role) -> KeyPair:
    """The pair of this file, which is made if it is missing.

    Raises:
        HomeError: as `load_keys`.
    """
    try:
        return load_keys(path, role)
    except FileNotFoundError:
        pass
    try:
        return create_keys(path, role)
    except FileExistsError:  # another process was faster
        return load_keys(path, role)


def slow_curve_warning() -> str | None:
    """One line about a pyzmq whose encryption is slow, or None."""
    if zmq.pyzmq_version_info()[:3] >= _FAST_PYZMQ:
        return None
    return (
        f"pyzmq {zmq.__version__} encrypts 10 to 30 times slower than pyzmq >= 27.3.0; "
        f"`pip install --upgrade pyzmq` speeds up links between hosts"
    )


def _check_key_file(name: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise HomeError(
            f"the key file {name} is not a regular file; move it away, and a new one is made"
        )
    if found.st_uid != os.geteuid():
        raise HomeError(
            f"the key file {name} belongs to the user with id {found.st_uid}, and this process "
            f"runs as {os.geteuid()}; it was not used"
        )
    if found.st_mode & 0o077:
        raise HomeError(
            f"the key file {name} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}) "
            f"and was not used: run `chmod 600 {name}`, and make a new key if others may have "
            f"read it"
        )
