"""A file or folder that is replaced whole: it holds the old content or the new, never a half.

The new content is made beside the target, on the same file system, under a hidden name. A
process killed at any moment leaves the target as it was; cut in the one instant between the
two renames of a replacement, the older folder waits under `.<name>.previous` for `recover`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Lend an empty folder; on leaving without an error it becomes `target`.

    Whatever `target` was is gone then. Raises OSError when a folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        yield partial
        sync(partial)
        _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(target: Path, data: bytes, *, durable: bool = True) -> None:
    """Have the file `target`, whose folder is there, hold `data`. Raises OSError if it cannot.

    durable: go on only when the disk holds it. Who does without (a disk takes milliseconds) must
    know a broken file when reading it, as power may fail.
    """
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.write_bytes(data)
        if durable:
            sync(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync(target.parent)


def recover(target: Path) -> None:
    """Bring back what an interrupted replacement of `target` set aside, or clear it away."""
    previous = _previous(target)
    if previous.exists() and not target.exists():
        previous.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk hold `path`, a file or (where the system can) a folder, before going on."""
    if path.is_dir() and os.name != "posix":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, target: Path) -> None:
    if target.exists():
        target.rename(_previous(target))
    try:
        partial.rename(target)
    except BaseException:
        recover(target)
        raise
    sync(target.parent)
    shutil.rmtree(_previous(target), ignore_errors=True)


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")
