"""The provisioner: submits, looks after and cancels an endpoint's blocks, by Parsl's providers.

It is a process of its own, that the interchange may kill when a command of the batch system hangs.
`process` is its link and its loop, `providers` what Parsl does, `slurm`, `pbs`, `local` and
`other` how jobs are, `scripts` the files of blocks, `commands` how a command is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxhpc.protocol.provision import BlockRef, ProvisionerSpec


def render(spec: ProvisionerSpec, block: BlockRef) -> str:
    """The script of the job that would be submitted. Imports Parsl; runs no command.

    Raises:
        fxhpc.endpoint.provisioner.providers.ProviderError: the provider cannot be made.
    """
    from fxhpc.endpoint.provisioner.providers import render as rendered

    return rendered(spec, block)
