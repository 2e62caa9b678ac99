"""`fxhpc connect`: what a client's ssh runs on the home's host."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from fxhpc.cli import output


@click.command()
@click.argument("mark", required=False)
@output.common_options
def connect(mark: str | None) -> int:
    """Serve the client at standard input and output.

    FuncXClient("ssh://HOST") on another host runs this there, by ssh. Nobody has to start it.
    """
    if mark is None or not re.fullmatch("[0-9a-f]{32}", mark):
        raise click.UsageError(
            "this command is run by FuncXClient('ssh://HOST'), which gives it a mark of 32 digits; "
            "use that in a Python program on your own computer"
        )
    from setproctitle import setproctitle

    from fxhpc.client.connection import relay
    from fxhpc.forwarder.home import Home

    setproctitle("fxhpc: relay")
    given = output.settings().home
    home = Home(os.path.expanduser(given)) if given else output.home()
    return relay.run(mark, Path(home.path))
