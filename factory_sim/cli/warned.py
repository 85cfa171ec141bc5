"""Warnings as plain lines on stderr."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Have plots that could not be drawn named in one plain line each."""
    from factory_sim.report.folder import PlotWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PlotWarning)
        yield
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
