"""ShellResult: how a command ended, and the last lines of what it wrote."""

from __future__ import annotations

#: Of each stream, `str()` shows so much at most.
_SHOWN_LINES = 10
_SHOWN_CHARACTERS = 1024


class ShellResult:
    """How the command of a ShellFunction ended. That it failed is no exception: look at
    `returncode`.

    Args:
        cmd: the command line as it was run, with its keywords filled in.
        stdout, stderr: the last lines of what it wrote, see `ShellFunction`.
        returncode: its exit code; negative: bash itself was ended by that signal; 124: the
            walltime was over.
        exception_name: None if it is 0, else "subprocess.CalledProcessError" or
            "subprocess.TimeoutExpired".
    """

    def __init__(
        self,
        cmd: str,
        stdout: str,
        stderr: str,
        returncode: int,
        exception_name: str | None = None,
    ) -> None:
        self.cmd = cmd
        self.stdout = stdout
        self.stderr = stderr
        self.returncode = returncode
        self.exception_name = exception_name

    def __str__(self) -> str:
        parts = [f"exit code: {self.returncode}", "   stdout:", _end_of(self.stdout, "stdout")]
        if self.returncode != 0:
            parts += ["", "   stderr:", _end_of(self.stderr, "stderr")]
            if self.exception_name:
                parts += ["", f"exception: {self.exception_name}"]
        return "\n".join(parts)

    def __repr__(self) -> str:
        names = ["returncode", "cmd", "exception_name", "stdout", "stderr"]
        if self.exception_name is None:
            names.remove("exception_name")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        from fxhpc.tables import facts

        told = [
            ("command", self.cmd),
            ("exit code", self.returncode),
            ("exception", self.exception_name),
            ("stdout", _end_of(self.stdout, "stdout")),
            ("stderr", _end_of(self.stderr, "stderr")),
        ]
        return facts("Command", told)


def _end_of(text: str, name: str) -> str:
    text = text.lstrip("\n").rstrip()
    shown = "\n".join(text[-_SHOWN_CHARACTERS:].splitlines()[-_SHOWN_LINES:])
    if len(shown) < len(text):
        return f"[... truncated; see .{name} for full output ...]\n{shown}"
    return shown
