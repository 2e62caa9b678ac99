"""What becomes of a home whose forwarder was started on another host: found there, or not.

Several login nodes may see one home. From here nobody sees the processes there: what can be asked
is the port. If it answers, the forwarder lives. If the host says that nobody listens there, it has
ended, and who gets the lock may begin. If there is no answer at all, nobody knows.
"""

from __future__ import annotations

import platform
import time

import msgspec

from fxhpc import forks
from fxhpc.errors import ForwarderUnreachable
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.units import format_duration

#: Seconds that the port is waited for.
PROBE_S = 3.0

#: Seconds after which a host is asked once more where nobody listens.
AGAIN_S = 0.3

#: What a person says who knows that the host is gone, or cannot be reached for long.
COMMAND = "fxhpc forwarder start --take-over"


def find_elsewhere(home: Home, address: ForwarderAddress) -> ForwarderAddress | None:
    """The home's forwarder on another host, with the address that answers; None: it has ended.

    Raises:
        ForwarderUnreachable: nobody knows.
    """
    if not address.hosts:
        raise ForwarderUnreachable(
            str(home.path),
            f"{_who(address)}, and listens for its own host alone. Work there; or have it listen "
            f"for others too, there: fxhpc access init; or, if that host is gone for good: "
            f"{COMMAND}",
        )
    with forks.none:  # in whatever thread this is: a fork would leave the imports half done
        from fxhpc.interchange.addresses import host_addresses  # here: few need it
        from fxhpc.transport.probing import REFUSED, answers

    own = set(host_addresses())  # private networks are not unique: what is ours is not there
    there = [one for one in address.hosts.split() if _host(one) not in own]
    for attempt in range(2):
        told = answers(there, PROBE_S)
        for one in there:
            if not told[one]:
                return msgspec.structs.replace(address, clients=one, managers="", pid=0)
        # It listens at all of its addresses or at none: one that says so is enough.
        if REFUSED not in told.values():
            break
        if attempt:
            return None
        time.sleep(AGAIN_S)  # a port that is opened anew is closed for a moment
    tried = ", ".join(f"{one.removeprefix('tcp://')}: {why}" for one, why in told.items())
    raise ForwarderUnreachable(
        str(home.path),
        f"{_who(address)}, and cannot be asked ({tried or 'it named no address'}). It may be cut "
        f"off, and go on: wait, or see to that host. If it is gone for good, or you cannot wait: "
        f"{COMMAND}",
    )


def lock_is_held(home: Home, address: ForwarderAddress) -> ForwarderUnreachable:
    """The error where nobody listens on the other host any more, and the lock is not free."""
    return ForwarderUnreachable(
        str(home.path),
        f"{_who(address)}; nobody listens there now, but {home.lock} is still locked: it is being "
        f"started, a firewall between the hosts refuses its port ({address.hosts}), or the file "
        f"server has not noticed its end, which takes some of them 90 s. Try again in a while; "
        f"or, if you are sure that it has ended: {COMMAND}",
    )


def _who(address: ForwarderAddress) -> str:
    ago = f" {format_duration(max(0.0, time.time() - address.since))} ago" if address.since else ""
    return (
        f"its forwarder was started{ago} on host {address.host} (pid {address.pid}), this is "
        f"{platform.node()}"
    )


def _host(address: str) -> str:
    return address.removeprefix("tcp://").rpartition(":")[0]
