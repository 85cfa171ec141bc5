"""What is said beside results: warnings as plain lines on stderr, and the command itself."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from collections.abc import Iterator


def said() -> str:
    """Return the command as it was typed."""
    return shlex.join(["factory-sim", *sys.argv[1:]])


def say(warning: str) -> None:
    """Print a warning, if it says anything."""
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Have plots that could not be drawn named in one plain line each."""
    from factory_sim.report.folder import PlotWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PlotWarning)
        yield
    for warning in caught:
        say(str(warning.message))
