"""Where runs are kept: a folder with a file for each, named by what it is a run of.

    FOLDER/index.parquet               what the last sweep came to, a row for each run
    FOLDER/runs/ab/abc....parquet      the summary of a run: figure, value or text
    FOLDER/requests/ab/abc....parquet  its requests, where a sweep asks for them

A run is written whole or not at all. One that is there is never done again, whatever sweep asks
for it; who is killed loses the runs in hand.
"""

from __future__ import annotations

from pathlib import Path

from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.task import Done, Figures, Task, from_parquet

INDEX = "index.parquet"


class Store:
    """The runs kept in a folder, which is made if need be.

    Raises InputError where it cannot be written, or holds something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            if folder.exists() and not (folder / "runs").is_dir() and any(folder.iterdir()):
                raise _unusable(folder, "holds something that is no sweep; name another folder")
            (folder / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, f"cannot be written: {error.strerror or error}") from None

    def path(self, key: str, kind: str = "runs") -> Path:
        """Return the file of a run; kind: `runs` or `requests`."""
        return self.folder / kind / key[:2] / f"{key}.parquet"

    def figures(self, key: str, task: Task) -> Figures | None:
        """Return what a run came to if it is kept; None too for a file that is broken."""
        if task.requests and not self.path(key, "requests").is_file():
            return None
        try:
            return from_parquet(self.path(key).read_bytes())
        except (OSError, ValueError):
            return None

    def keep(self, key: str, done: Done) -> None:
        """Keep a run. Raises OSError if the folder takes no more."""
        if done.requests is not None:
            self._write(self.path(key, "requests"), done.requests)
        self._write(self.path(key), done.summary)

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content, durable=False)


def _unusable(folder: Path, message: str) -> InputError:
    return InputError(Problem("--out", f"{folder} {message}"))
