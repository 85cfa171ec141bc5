"""Formulas over the results of runs: `continuous.output_tokens_per_s / static.itl_ms.p99`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Formula:
    """A sum of products of numbers and figures, each a variant's name and a path in its summary.

    Raises ValueError for what is not such a formula, when it is made; and when it is evaluated
    for a figure that is not there.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._root = ast.parse(text, mode="eval").body
        except SyntaxError:
            raise ValueError(f"{text!r} is no formula; write for example 'a.pue / b.pue'") from None
        self.names = frozenset(self._names(self._root))

    def value(self, summaries: Mapping[str, Mapping[str, Any]]) -> float:
        """Return its value with the summary of each variant."""
        return self.value_of(lambda name, path: figure(name, summaries[name], path))

    def value_of(self, look_up: Callable[[str, str], float]) -> float:
        """Return its value; look_up: the figure of a variant, by the variant's name and a path."""
        return self._value(self._root, look_up)

    def _names(self, node: ast.expr) -> list[str]:
        """Return the variants that are named; ValueError for anything but sums and products."""
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self._names(node.left) + self._names(node.right)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return []
        if isinstance(node, ast.Attribute):
            return [_path(node)[0]]
        raise ValueError(
            f"{ast.unparse(node)!r} in {self.text!r} is neither a number nor a figure of a variant"
        )

    def _value(self, node: ast.expr, look_up: Callable[[str, str], float]) -> float:
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, look_up), self._value(node.right, look_up)
            return _BINARY[type(node.op)](left, right)
        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]  # `_names` has seen to that
        name, *keys = _path(node)
        return look_up(name, ".".join(keys))


def figure(name: str, summary: Mapping[str, Any], path: str) -> float:
    """Return a figure of the summary of variant `name`; ValueError if it is not there."""
    found: Any = summary
    for key in path.split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f"a run of {name!r} has no figure '{path}'")
        found = found[key]
    return float(found)


def _path(node: ast.expr) -> list[str]:
    """Return the parts of a dotted name; ValueError if it is something else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_path(node.value), node.attr]
    raise ValueError(f"{ast.unparse(node)!r} is no figure of a variant")
