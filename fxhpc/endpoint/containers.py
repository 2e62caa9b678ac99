"""The container that an endpoint's managers and workers run in, by its configuration."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from pathlib import Path

from fxhpc.containers import places, unfit_place
from fxhpc.endpoint import launch
from fxhpc.endpoint.configuration.checks import expand
from fxhpc.endpoint.configuration.config import EndpointConfig
from fxhpc.endpoint.configuration.provider import ONE_NODE_LAUNCHERS, LocalProvider
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.containers import KINDS, patterns
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import ContainerSpec


def container_of(
    config: EndpointConfig, directory: EndpointDirectory, manager: ManagerSpec
) -> ContainerSpec | None:
    """The container that an endpoint's workers run in; None if they run in none.

    Args:
        manager: what its managers are told: where tasks run, where logs go.

    Raises:
        ConfigError: the runtime is not on this host, where the container would have to run; or a
            directory that must be seen in it has a name that cannot be said to the runtime.
    """
    engine = config.engine
    if engine.container_type is None:
        return None
    _check_runtime(config)
    state, home = str(directory.state), str(Path.home())
    cwd = os.fsdecode(manager.cwd)
    made = [state, os.fsdecode(manager.sandbox), manager.log_dir]
    seen = []
    if engine.working_dir:
        made.append(cwd)
    else:
        seen.append(cwd)
    custom = engine.container_type == "custom"
    apptainer = engine.container_type in ("apptainer", "singularity")
    if home != "/" and not apptainer:  # which has a home directory of its own accord, or by -H
        seen.append(home)
    spec = ContainerSpec(
        kind=engine.container_type,
        image="" if custom else _image(engine.container_uri or "", apptainer),
        options=_options(engine.container_cmd_options or "", directory, custom),
        made=list(places(made)),
        seen=list(places(seen, made)),
        home=home if home != "/" else "",
    )
    if not custom:
        _check_places(config, spec)
    return spec


def images_of(config: EndpointConfig) -> list[str]:
    """The images that functions may have here.

    Where the managers are in a container, nobody can start another one in it.
    """
    if config.engine.container_type is not None:
        return []
    return list(config.settings.containers.allowed)


def patterns_of(config: EndpointConfig) -> list[str]:
    """Patterns of what functions can have here, as far as that is certain."""
    kinds = [kind for kind in KINDS if not _is_missing(config, kind)]
    return list(patterns(kinds, images_of(config)))


def _image(uri: str, is_file: bool) -> str:
    return expand(uri) if is_file and "://" not in uri else uri


def _options(text: str, directory: EndpointDirectory, custom: bool) -> str:
    """Words for the shell of a node: options, or the whole command of a custom container."""
    if not custom:
        return text
    if not set(text) & set(";|&<>()") and "=" not in text.split()[0]:
        text = f"exec {text}"  # so that signals reach it, and not a shell that waits for it
    text = text.replace("{EXECUTOR_RUNDIR}", shlex.quote(str(directory.state)))
    return text.replace("{EXECUTOR_LAUNCH_CMD}", launch.contained(directory))


def _check_runtime(config: EndpointConfig) -> None:
    """Say now what is certain: that the blocks, which are on this host, cannot have it."""
    kind = str(config.engine.container_type)
    if kind == "custom" or not _is_missing(config, kind):
        return
    raise ConfigError(
        [
            config.problem(
                ("engine", "container_type"),
                f"there is no {kind} on {socket.gethostname()}, where the blocks of a "
                f"LocalProvider run: install it, or name another one; workers are not started "
                f"without their container",
            )
        ]
    )


def _is_missing(config: EndpointConfig, kind: str) -> bool:
    """Whether it is certain that no node has this command."""
    provider = config.provider
    launcher = provider.launcher
    here = isinstance(provider, LocalProvider) and (
        launcher is None or launcher.type in ONE_NODE_LAUNCHERS
    )
    # A worker_init may put it on the path.
    return here and not provider.worker_init.strip() and not shutil.which(kind)


def _check_places(config: EndpointConfig, container: ContainerSpec) -> None:
    if unfit := unfit_place((*container.made, *container.seen)):
        raise ConfigError(
            [
                config.problem(
                    ("engine", "container_type"),
                    f"the container must see {unfit!r}, and {container.kind} cannot be told of "
                    f"a directory with ':', ',' or a line break in its name: name another "
                    f"`state_dir` or `working_dir`",
                )
            ]
        )
