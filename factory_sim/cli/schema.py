"""`factory-sim schema`: the JSON schema of a scenario or a sweep, for editors."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """Files that have a schema."""

    SCENARIO = "scenario"
    SWEEP = "sweep"


def schema(
    kind: Annotated[Kind, typer.Argument(help="Of which files.")] = Kind.SCENARIO,
) -> None:
    """Print the JSON schema of scenario files, for completion and checks in your editor."""
    if kind is Kind.SCENARIO:
        from factory_sim.scenario import json_schema
    else:
        from factory_sim.experiments.sweep.spec import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
