"""The terminal: `factory-sim run`, `check`, `sweep`, `catalog` and their like."""

from __future__ import annotations

from factory_sim.cli.app import app


def main() -> None:
    """Run the command line; the entry point of the `factory-sim` script."""
    app(prog_name="factory-sim")


__all__ = ["app", "main"]
