"""A home that is removed while its forwarder works: it ends, and clients start another."""

from __future__ import annotations

import shutil

import psutil
from homes import TestHome, eventually, finish

from fxhpc.forwarder.home import Home


def test_a_forwarder_ends_with_its_home(home: TestHome) -> None:
    script = home.start(
        "removed.py",
        """
        import sys
        from fxhpc import FuncXClient

        def double(x):
            return 2 * x

        fxc = FuncXClient()
        function = fxc.register_function(double)
        print(fxc.get_result(fxc.run(1, endpoint_id="local", function_id=function)), flush=True)
        sys.stdin.readline()
        """,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "2\n"
    first = home.forwarder()
    shutil.rmtree(home.path)
    Home(home.path).create()
    eventually(lambda: not psutil.pid_exists(first.pid), within=10)
    assert script.stdin is not None
    script.stdin.write("\n")
    script.stdin.flush()
    finish(script)
