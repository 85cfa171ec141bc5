"""The cases that ship with the package: published figures, one YAML file for each source."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from factory_sim.validation.case import Case, cases_from


def builtin_cases() -> list[Case]:
    """Return the built-in cases, source by source in alphabetical order; no two ids are alike."""
    folder = resources.files("factory_sim.validation").joinpath("cases")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")),
        key=lambda file: file.name,
    )
    given = [fields for file in files for fields in yaml.safe_load(file.read_text("utf-8"))]
    return cases_from(given, "built-in cases", Path())
