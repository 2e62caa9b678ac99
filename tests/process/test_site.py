"""A host with a site file in its place: who works there cannot get around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_SITE = """\
message: Down on Tuesday
endpoints: {max_blocks: 3}
login_nodes: {hosts: ["*"], max_workers: 0}
"""

#: A copy of /etc with a site file, in a mount namespace of its own, then a command.
_INSIDE = """
set -e
cp -a /etc "$1/etc" 2>/dev/null || true
mkdir -p "$1/etc/fxhpc"
cp "$1/site.yaml" "$1/etc/fxhpc/site.yaml"
chmod 644 "$1/etc/fxhpc/site.yaml"
mount --bind "$1/etc" /etc
shift
exec "$@"
"""

_SCRIPT = """
import subprocess, sys
import fxhpc
try:
    fxhpc.Executor()
except fxhpc.errors.UsageError as error:
    print("executor:", error)
for command in sys.argv[1:]:
    done = subprocess.run([sys.executable, "-m", "fxhpc.cli.main", *command.split()],
        capture_output=True, text=True)
    print(command, done.returncode, done.stdout, done.stderr)
"""


def test_nothing_runs_on_a_login_node_that_forbids_it(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(_SITE)
    unshare = shutil.which("unshare")
    assert unshare is not None
    apart = [unshare, "--mount"] if os.geteuid() == 0 else [unshare, "--map-root-user", "--mount"]
    inside = ["sh", "-c", _INSIDE, "sh", str(tmp_path)]
    configuration = tmp_path / "home" / "endpoints" / "here" / "config.yaml"
    for folder in (tmp_path / "home", *configuration.parents[1::-1]):
        folder.mkdir(mode=0o700, exist_ok=True)
    configuration.write_text("engine: {provider: local}\n")
    environ = {**os.environ, "FXHPC_HOME": str(tmp_path / "home"), "FXHPC_WORKERS": "4"}

    done = subprocess.run(
        [*apart, *inside, sys.executable, "-c", _SCRIPT, "endpoint start here", "doctor --json"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
        check=True,
    )
    shutil.rmtree(tmp_path / "etc")  # hundreds of files, of all modes

    words = "No tasks run on this login node"
    assert f"executor: {words}" in done.stdout
    assert done.stdout.count(words) == 2
    assert "endpoint start here 6" in done.stdout
    assert "endpoints.max_blocks: 3" in done.stdout
    assert done.stdout.count("Down on Tuesday") == 2
    assert "/etc/fxhpc/site.yaml:3" in done.stdout
    assert not Path("/etc/fxhpc").exists()
