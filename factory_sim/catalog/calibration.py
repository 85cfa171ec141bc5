"""The calibration that ships: fitted figures laid over hand-written ones, and how sure they are.

Like a chart's correction sheet: the chart stays as printed, the sheet says which soundings a
survey has since replaced, and by how much they may still be off. The file is written by
`factory-sim calibrate --catalog`, never by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

FILE = "calibration.yaml"
EVERY = "*"
"""In a parameter's name: all entries of the section, which share the figure."""

SECTION_FILES = {"families": "efficiency", "engines": "engines", "power": "power"}


@dataclass(frozen=True)
class Calibration:
    """Fitted parameters by name (`families.hopper-bf16.per_layer`), as YAML writes values.

    covariance: of the logarithms of the values, in their order.
    """

    source: str
    values: dict[str, Any]
    errors: dict[str, float]
    covariance: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """Return the parameters in the order of the covariance."""
        return list(self.values)


def parts(name: str) -> tuple[str, str, str]:
    """Return section, entry and field of a parameter's name; an entry may hold dots."""
    section, _, rest = name.partition(".")
    entry, _, field = rest.rpartition(".")
    return section, entry, field


@cache
def shipped() -> Calibration:
    """Return the calibration of the package."""
    file = resources.files("factory_sim.catalog").joinpath("data").joinpath(FILE)
    return read(file.read_text(encoding="utf-8")) if file.is_file() else read("")


def read(text: str) -> Calibration:
    """Return the calibration that YAML text holds; an empty one for no text."""
    given = yaml.safe_load(text) or {"source": "", "values": {}, "correlation": []}
    entries = given["values"]
    errors = {name: float(entry["error"]) for name, entry in entries.items()}
    spread = np.array(list(errors.values()))
    size = len(spread)
    correlation = np.zeros((size, size))
    for row, numbers in enumerate(given["correlation"]):
        correlation[row, : row + 1] = numbers
    correlation = correlation + correlation.T - np.diag(np.diag(correlation))
    return Calibration(
        given["source"],
        {name: entry["value"] for name, entry in entries.items()},
        errors,
        correlation * np.outer(spread, spread),
    )


def write(
    source: str,
    values: dict[str, Any],
    errors: dict[str, float],
    covariance: NDArray[np.float64],
) -> str:
    """Return the YAML text of a calibration; correlations as the lower triangle, by rows."""
    spread = np.sqrt(np.diag(covariance))
    safe = np.where(spread > 0, spread, 1.0)
    correlation = covariance / np.outer(safe, safe)
    lines = [
        "# Written by `factory-sim calibrate --catalog`: fitted figures, their relative standard",
        "# errors, and the correlations of their logarithms (lower triangle). Not to be edited.",
        f"source: {source!r}",
        "values:",
    ]
    lines += [
        f"  {name}: {{value: {value}, error: {errors[name]:.4g}}}" for name, value in values.items()
    ]
    lines.append("correlation:")
    for row in range(len(values)):
        numbers = ", ".join(f"{value:.3g}" for value in correlation[row, : row + 1])
        lines.append(f"  - [{numbers}]")
    return "\n".join(lines) + "\n"


def lay_over(sections: dict[str, Any], calibration: Calibration) -> dict[str, Any]:
    """Return the catalogue's sections, as read, with the fitted figures in place.

    What all entries share is calibrated of those with other fitted figures; one that is only `like`
    another takes it from there, as an estimate.
    """
    laid = dict(sections)
    fitted = {parts(name)[:2] for name in calibration.values}
    for name, value in calibration.values.items():
        kind, entry, field = parts(name)
        section = SECTION_FILES[kind]
        fact = {
            "value": value,
            "kind": "calibrated",
            "source": calibration.source,
            "error": calibration.errors[name],
        }
        entries = laid[section]
        own = [one for one in entries if "like" not in entries[one] or (kind, one) in fitted]
        changed = own if entry == EVERY else [entry]
        laid[section] = {**entries, **{one: {**entries[one], field: fact} for one in changed}}
    return laid
