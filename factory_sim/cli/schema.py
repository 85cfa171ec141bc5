"""`factory-sim schema`: the JSON schema of a scenario, for editors."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON schema of scenario files, for completion and checks in your editor."""
    from factory_sim.scenario import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
