"""A single file that is replaced whole: it holds the old content or the new, never a half."""

from __future__ import annotations

import os
from pathlib import Path

from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem


def check_file(path: Path, option: str) -> None:
    """Raise InputError unless `path` can be written: ask this before long work.

    option: what the user gave the path with, such as `--json`.
    """
    if path.is_dir():
        raise _unusable(path, option, "is a folder; name a file")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise _unusable(path, option, f"cannot be written: {parent} is no folder")
    writable = os.access(path, os.W_OK) if path.exists() else True
    if not writable or not os.access(parent, os.W_OK | os.X_OK):
        raise _unusable(path, option, "cannot be written; name a file that you may write")


def write_file(path: Path, content: str | bytes, option: str) -> Path:
    """Write `content` (text as UTF-8) as the file `path`, at once; make its folder if need be.

    A link keeps leading where it led. What is no plain file (a pipe, `/dev/stdout`) is written
    to as it is. Raises InputError when it cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                stream.write(data)
            return path
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, data)
    except OSError as error:
        said = f"cannot be written: {error.strerror or error}"
        raise _unusable(path, option, said) from error
    return path


def _unusable(path: Path, option: str, message: str) -> InputError:
    return InputError(Problem(option, f"{path} {message}"))
