"""Reads what `fxhpc store export` has written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fxhpc import errors

#: The files of an export.
TASKS, FUNCTIONS, RESULTS = "tasks.jsonl", "functions.jsonl", "results"

README = """\
Tasks that fxhpc has run, exported by `fxhpc store export`.

tasks.jsonl      a JSON object on each line, for each task: task_id, status, function_name,
                 function_id, endpoint, submitted and ended (seconds since 1970), group, labels,
                 metadata; and one of
                   result        its value, if JSON knows it
                   result_file   a file with it, for Python's pickle.load (or dill.load)
                   error         what it raised, or how it was lost, in words
                 or none of these, if it had not ended.
functions.jsonl  the functions: function_id, name, description, source.
results/         the files.

With fxhpc: fxhpc.load_export(this directory) gives the tasks by their ids; each has .result().
Load pickles of people whom you trust alone: they can run code.
"""


class ExportedTask:
    """A task of an export.

    Attributes:
        task_id: its id.
        info: its line of `tasks.jsonl`.
    """

    def __init__(self, directory: Path, info: dict[str, Any]) -> None:
        self._directory = directory
        self.task_id: str = info["task_id"]
        self.info = info

    def __repr__(self) -> str:
        return f"<ExportedTask {self.task_id} {self.info.get('status', '')}>"

    def result(self) -> Any:
        """Its value; it is unpacked each time.

        Raises:
            TaskExecutionFailed: it has none; the text says why.
            TaskPending: it had not ended when it was exported.
            SerializationError: it cannot be unpacked here.
        """
        if "result" in self.info:
            return self.info["result"]
        if "error" in self.info:
            raise errors.TaskExecutionFailed(f"task {self.task_id}: {self.info['error']}")
        if "result_file" not in self.info:
            raise errors.TaskPending("it had not ended when it was exported", self.task_id)
        from fxhpc.serialize import unpack_result

        path = self._directory / self.info["result_file"]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise errors.SerializationError(
                f"the result of task {self.task_id} cannot be read: {path}: {error.strerror}; the "
                f"export is not whole any more"
            ) from error
        return unpack_result(data)


def _checked(info: Any) -> dict[str, Any]:
    """A line of `tasks.jsonl`.

    Raises:
        ValueError: it tells of no task, or names a file outside of the export.
    """
    if not isinstance(info, dict) or not isinstance(info.get("task_id"), str):
        raise ValueError("a line tells of no task")
    file = info.get("result_file", "")
    if not isinstance(file, str) or Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError(f"the file {file!r} does not belong to the export")
    return info


def load_export(path: str | os.PathLike[str]) -> dict[str, ExportedTask]:
    """The tasks that `fxhpc store export` has written into a directory, by their ids.

    Raises:
        UsageError: it is no export, or not a whole one.
    """
    directory = Path(path)
    try:
        with open(directory / TASKS, encoding="utf-8") as file:
            tasks = [ExportedTask(directory, _checked(json.loads(line))) for line in file]
    except FileNotFoundError:
        raise errors.UsageError(
            f"{directory} is no whole export: it has no {TASKS}; make one with `fxhpc store "
            f"export DIRECTORY`"
        ) from None
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{directory / TASKS} cannot be read: {error}") from None
    return {task.task_id: task for task in tasks}
