"""What the task commands need of a home: whether there is a store, and a client to ask it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.forwarder.home import HOME_VARIABLE

if TYPE_CHECKING:
    from fxhpc.cli.explaining import QuietClient


def has_store() -> bool:
    """Whether anything was ever submitted through the home: a look must not make one.

    Raises:
        HomeError: it is no directory, or cannot be looked into.
    """
    home = output.home()
    try:
        with os.scandir(home.path):
            return home.store.exists()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise errors.HomeError(
            f"the home {home.path} cannot be used: {error.strerror}; name a directory of yours "
            f"(--home, {HOME_VARIABLE})"
        ) from error


def task_client(*names: str) -> QuietClient:
    """A client of the home, whose forwarder is started if it has to be: the store is there.

    Raises:
        UsageError, InvalidUUID: one of them cannot be a task's name.
        TaskNotFound: the home has no store, and so none of these tasks.
    """
    from fxhpc.cli.explaining import QuietClient, check_name

    for name in names:
        check_name(name)
    if not has_store():
        home = output.home().path
        raise errors.TaskNotFound(f"{', '.join(names)} (nothing was ever submitted from {home})")
    return QuietClient(home=output.home().path)


def check_endpoint(endpoint: str | None) -> None:
    """Make sure that the home has an endpoint that is named, where it has no store to ask.

    Raises:
        EndpointNotFound: it has none of this name.
    """
    from fxhpc.client.names import endpoint_name

    if endpoint:
        endpoint_name(endpoint, output.home().path)
