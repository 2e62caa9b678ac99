"""Prints the script of an endpoint's batch job: a process of its own, since it imports Parsl.

`python -m fxhpc.endpoint.render`; a `ProvisionerSpec` comes as msgpack on standard input. Exit code
1: it cannot be made, and standard error says why.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from fxhpc.protocol.provision import BlockRef, ProvisionerSpec

#: Seconds that Parsl may take to be imported and to write a script.
RENDER_S = 60.0


def rendered(spec: ProvisionerSpec, block: BlockRef, environment: dict[str, str]) -> str:
    """The script of the job that a block would be.

    Raises:
        RuntimeError: it cannot be made; the text says why.
    """
    data = msgspec.msgpack.encode((spec, block))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fxhpc.endpoint.render"],
            input=data,
            capture_output=True,
            cwd="/",
            env=environment,
            timeout=RENDER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no script was made within {RENDER_S:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace")


def main() -> int:
    """Print the script."""
    from fxhpc.endpoint.provisioner import render

    spec, block = msgspec.msgpack.decode(
        sys.stdin.buffer.read(), type=tuple[ProvisionerSpec, BlockRef]
    )
    try:
        text = render(spec, block)
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
