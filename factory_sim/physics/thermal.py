"""A thing that warms and cools: one heat capacity behind one conductance, solved exactly."""

from __future__ import annotations

from math import expm1


def warmed_c(
    temperature_c: float,
    seconds: float,
    heat_w: float,
    capacity_j_per_k: float,
    conductance_w_per_k: float,
    coolant_c: float,
) -> float:
    """Return a temperature after some seconds of constant heat and coolant.

    capacity * dT/dt = heat - conductance * (T - coolant): an exponential towards
    coolant + heat / conductance, and a straight line where nothing flows.
    """
    if conductance_w_per_k <= 0.0:
        return temperature_c + heat_w * seconds / capacity_j_per_k
    final_c = coolant_c + heat_w / conductance_w_per_k
    gone = -expm1(-seconds * conductance_w_per_k / capacity_j_per_k)
    return temperature_c + (final_c - temperature_c) * gone
