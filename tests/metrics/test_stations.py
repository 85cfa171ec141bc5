"""Little's law at stations: exact over a whole run, and cut at the ends of a window."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.metrics.stations import Stay, board, little, stays_of

times = st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)), min_size=1, max_size=30)


@given(times)
def test_over_a_whole_run_wip_is_throughput_times_cycle_time(
    spans: list[tuple[float, float]],
) -> None:
    came, lasted = (np.array(column) for column in zip(*spans, strict=True))
    found = little([Stay(came, came + lasted)], -1.0, 201.0)
    law = found["throughput_per_s"] * found["cycle_time_s"]
    assert found["wip"] == pytest.approx(law, rel=1e-9, abs=1e-12)


def test_a_window_cuts_stays_at_its_ends() -> None:
    came, left = np.array([0.0, 4.0, 8.0]), np.array([6.0, 5.0, 20.0])
    found = little([Stay(came, left)], 5.0, 10.0, scale=2.0)
    # One second of the first, none of the second, two of the third.
    assert found["wip"] == pytest.approx(2.0 * 3.0 / 5.0)
    assert found["throughput_per_s"] == pytest.approx(2.0 * 1.0 / 5.0)
    assert found["cycle_time_s"] == pytest.approx(6.0)
    assert "cycle_time_s" not in little([Stay(came, left)], 10.0, 12.0)


def request(**more: object) -> pd.DataFrame:
    row = {
        "arrival_s": 10.0,
        "admitted_s": 11.5,
        "ttft_ms": 2500.0,
        "e2e_ms": 9500.0,
        "workload": "w",
        "deployment": "d",
        "outcome": "completed",
    }
    return pd.DataFrame([row | more, row | {"outcome": "timed_out", "e2e_ms": np.nan}])


def spent(
    table: pd.DataFrame, way_s: float = 0.5, withheld: tuple[str, ...] = ()
) -> dict[str, float]:
    stays = stays_of(table, {"w": way_s}, withheld)
    return {n: sum(float((s.left_s - s.came_s).sum()) for s in each) for n, each in stays.items()}


def test_stations_follow_each_other_from_sending_to_seeing() -> None:
    assert spent(request()) == {"network": 1.0, "queue": 1.0, "prefill": 0.5, "decode": 7.0}
    assert sum(spent(request()).values()) == 9.5
    assert "network" not in spent(request(), way_s=0.0)


def test_a_cache_moves_after_the_first_token_or_before() -> None:
    moved = request(transfer_ms=200.0)
    assert spent(moved) == pytest.approx(
        {"network": 1.0, "queue": 1.0, "prefill": 0.5, "transfer": 0.2, "decode": 6.8}
    )
    assert spent(moved, withheld=("d",)) == pytest.approx(
        {"network": 1.0, "queue": 1.0, "prefill": 0.3, "transfer": 0.2, "decode": 7.0}
    )


def test_images_come_before_the_queue() -> None:
    found = spent(request(encoding_ms=400.0))
    assert found["encode"] == pytest.approx(0.4)
    assert found["queue"] == pytest.approx(0.6)


def test_a_board_leaves_out_where_nobody_is() -> None:
    found = board(request(admitted_s=10.5), {"w": 0.5}, (), (0.0, 30.0), 1.0)
    assert set(found) == {"network", "prefill", "decode"}
