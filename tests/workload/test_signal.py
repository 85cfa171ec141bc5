"""Signals: values, integrals, extremes and change times; what a file may say."""

import math
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from factory_sim.errors import InputError
from factory_sim.frozen import Frozen, validate
from factory_sim.scenario.calendar import Calendar
from factory_sim.scenario.signal import DAY_S, Constant, Daily, Linear, Signal, Sinusoid, Steps
from factory_sim.scenario.signal_forms import signal_of
from factory_sim.units import Share, Watts

HOUR = 3600.0
WattSignal = signal_of(Watts)
ShareSignal = signal_of(Share)


class Site(Frozen):
    limit: WattSignal


def limit(given: Any, base: Path | None = None) -> Signal:
    signal: Signal = validate(Site, {"limit": given}, {"base": base} if base else None).limit
    return signal


def problem(given: Any, base: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        limit(given, base)
    return str(caught.value)


CURTAILED = {"steps": [["0 s", "20 MW"], ["15 min", "12 MW"], ["1 h", "20 MW"]]}
DAY = {"daily": [["04:00", "4 W"], ["16:00", "16 W"]], "starts_at": "09:00"}
WAVE = {"sinusoid": {"mean": "10 W", "amplitude": "2 W", "period": "4 h", "phase": "1 h"}}


def test_a_value_alone_is_constant() -> None:
    assert limit("20 MW") == Constant(20e6)
    assert limit("20 MW").at(5.0) == 20e6
    assert limit("20 MW").integral(10.0) == 200e6
    assert limit("20 MW").changes(math.inf) == []


def test_steps_hold_until_the_next() -> None:
    signal = limit(CURTAILED)
    times = np.array([0.0, 899.999, 900.0, 3599.0, 3600.0, 1e9])
    assert signal.at(times).tolist() == [20e6, 20e6, 12e6, 12e6, 20e6, 20e6]
    assert signal.changes(3600.0) == [900.0]
    assert signal.changes(3601.0) == [900.0, 3600.0]
    assert signal.integral(4000.0) == 900 * 20e6 + 2700 * 12e6 + 400 * 20e6
    assert (signal.min_over(0, 899), signal.min_over(0, 900)) == (20e6, 12e6)
    assert signal.max_over(1000, 2000) == 12e6
    assert not signal.continuous


def test_steps_before_the_first_time_hold_its_value() -> None:
    signal = Steps((10.0, 20.0), (3.0, 5.0))
    assert signal.at(0.0) == 3.0
    assert signal.integral(30.0) == 20 * 3.0 + 10 * 5.0


def test_a_step_to_the_same_value_is_no_change() -> None:
    assert Steps((0.0, 1.0, 2.0), (5.0, 5.0, 6.0)).changes(9.0) == [2.0]


def test_a_day_is_linear_and_goes_round_midnight() -> None:
    signal = limit(DAY)
    assert signal.at(0.0) == 9.0  # 09:00, five of twelve hours from 4 to 16
    assert signal.at(7 * HOUR) == 16.0
    assert signal.at(13 * HOUR) == 10.0  # 22:00, half way down to 04:00
    assert signal.at(24 * HOUR) == signal.at(0.0)
    assert signal.integral(24 * HOUR) == pytest.approx(10.0 * 24 * HOUR, rel=1e-14)
    assert signal.integral(7 * HOUR) == pytest.approx(7 * HOUR * 12.5, rel=1e-14)
    assert signal.continuous
    assert (signal.min_over(0, 8 * HOUR), signal.max_over(0, 8 * HOUR)) == (9.0, 16.0)
    assert (signal.min_over(0, math.inf), signal.max_over(0, math.inf)) == (4.0, 16.0)


def test_a_sinusoid() -> None:
    signal = limit(WAVE)
    assert signal == Sinusoid(10.0, 2.0, 4 * HOUR, HOUR)
    assert signal.at(HOUR) == 10.0
    assert signal.at(2 * HOUR) == 12.0
    assert signal.max_over(0.0, 2 * HOUR) == 12.0
    assert signal.max_over(2.5 * HOUR, 5 * HOUR) < 12.0
    assert (signal.min_over(0, math.inf), signal.max_over(0, math.inf)) == (8.0, 12.0)
    assert signal.integral(4 * HOUR) == pytest.approx(40.0 * HOUR, rel=1e-14)


@pytest.mark.parametrize(
    "signal",
    [
        Constant(3.0),
        Steps((0.0, 100.0, 250.0), (1.0, 4.0, 2.0)),
        Linear((10.0, 100.0, 250.0), (1.0, 4.0, 2.0), {}),
        Daily((100.0, 500.0), (1.0, 4.0), 86_000.0),
        Daily((100.0,), (2.0,)),
        Sinusoid(1.0, 0.5, 130.0, 20.0),
    ],
)
def test_integrals_and_extremes_agree_with_the_values(signal: Signal) -> None:
    # Midpoints of whole seconds: no jump of the steps falls inside a cell.
    middles = np.arange(0.0, 1000.0, 0.25) + 0.125
    sums = np.concatenate(([0.0], np.cumsum(signal.at(middles) * 0.25)))
    edges = np.arange(0.0, 1000.25, 0.25)
    assert np.allclose(signal.integral(edges), sums, rtol=1e-4, atol=1e-3)
    for start, end in ((0.0, 1000.0), (30.0, 60.0), (100.0, 500.0)):
        seen = signal.at(np.linspace(start, end, 20_001))
        assert signal.max_over(start, end) == pytest.approx(seen.max(), rel=1e-4)
        assert signal.min_over(start, end) == pytest.approx(seen.min(), rel=1e-4)
        assert signal.max_over(start, end) >= seen.max()
        assert signal.min_over(start, end) <= seen.min()


@pytest.mark.parametrize("given", ["20 MW", CURTAILED, DAY, WAVE])
def test_a_signal_is_written_as_it_is_read(given: Any) -> None:
    site = validate(Site, {"limit": given})
    assert validate(Site, site.model_dump()) == site
    assert pickle.loads(pickle.dumps(site)) == site
    assert hash(site.limit) == hash(pickle.loads(pickle.dumps(site.limit)))


WAVY = Sinusoid(7.0, 1.0, 1e5, 300.0)
NEW_YEAR = datetime(2025, 1, 1, 6, 0, tzinfo=timezone(timedelta(hours=1)))
"""A Wednesday."""
WEEK = Calendar(
    "week", (*map(Constant, (1.0, 2.0, 3.0, 4.0, 5.0)), Daily((0.0,), (6.0,)), WAVY), NEW_YEAR
)
MONTHS = Calendar("months", tuple(Sinusoid(float(n), 0.5, 7e4) for n in range(12)), NEW_YEAR)


def test_a_calendar_turns_at_its_own_midnights() -> None:
    midnights = 18 * HOUR + DAY_S * np.arange(5)
    assert WEEK.at(midnights).tolist() == [4.0, 5.0, 6.0, WAVY.at(90 * HOUR), 1.0]
    assert WEEK.at(0.0) == WEEK.at(18 * HOUR - 1.0) == 3.0
    assert WEEK.changes(3 * DAY_S) == [18 * HOUR, 42 * HOUR, 66 * HOUR]
    noon = datetime(2025, 1, 1, 12, 0, tzinfo=NEW_YEAR.tzinfo)
    by_month = Calendar("months", tuple(map(Constant, range(12))), noon)
    first_of_march = DAY_S * (31 + 28) - 12 * HOUR
    assert by_month.at(np.array([first_of_march - 1.0, first_of_march])).tolist() == [1.0, 2.0]
    assert by_month.at(400 * DAY_S) == 1.0
    assert by_month.integral(365 * DAY_S) == DAY_S * sum(
        month * days for month, days in enumerate((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31))
    )


@pytest.mark.parametrize("signal", [WEEK, MONTHS])
def test_integrals_and_extremes_of_a_calendar_agree_with_its_values(signal: Calendar) -> None:
    edges = np.arange(0.0, 500 * DAY_S, 900.0)
    sums = np.concatenate(([0.0], np.cumsum(signal.at(edges[:-1] + 450.0) * 900.0)))
    assert np.allclose(signal.integral(edges), sums, rtol=1e-5, atol=50.0)
    for start, end in ((0.0, 5 * HOUR), (10 * HOUR, 50 * DAY_S), (0.0, 400 * DAY_S)):
        seen = signal.at(np.linspace(start, end, 40_001))
        assert seen.max() <= signal.max_over(start, end) == pytest.approx(seen.max(), rel=1e-3)
        assert seen.min() >= signal.min_over(start, end) == pytest.approx(seen.min(), abs=1e-3)
    assert signal.max_over(0.0, math.inf) == pytest.approx(signal.max_over(0.0, 400 * DAY_S))


@pytest.mark.parametrize("by", ["week", "months"])
def test_a_calendar_is_written_as_it_is_read(by: Any) -> None:
    days: list[Any] = ["20 MW", CURTAILED, DAY, WAVE, *["1 W"] * 3]
    given = {"limit": {by: days if by == "week" else [*days, *["2 W"] * 5]}}
    context = {"starts_at": NEW_YEAR}
    site = validate(Site, given, context)
    assert validate(Site, site.model_dump(), context) == site
    assert pickle.loads(pickle.dumps(site)) == site
    with pytest.raises(InputError, match="limit: follows the calendar; give the scenario"):
        validate(Site, given)
    with pytest.raises(InputError, match=f"limit: '{by}' takes (7|12) values, .* first, not 1"):
        validate(Site, {"limit": {by: ["1 W"]}}, context)


def test_a_csv_holds_or_joins_its_points(tmp_path: Path) -> None:
    (tmp_path / "limit.csv").write_text("hour,mw,note\n0,2,a\n1,4,b\n3,1,c\n")
    form = {"csv": "limit.csv", "column": "mw", "unit": "MW", "time": "hour", "time_unit": "h"}
    held = limit(form, tmp_path)
    assert held.at(np.array([0.0, HOUR - 1, HOUR, 5 * HOUR])).tolist() == [2e6, 2e6, 4e6, 1e6]
    assert held.changes(math.inf) == [HOUR, 3 * HOUR]
    joined = limit({**form, "between": "linear"}, tmp_path)
    assert joined.at(2 * HOUR) == 2.5e6
    assert joined.integral(3 * HOUR) == (3e6 + 5e6) * HOUR
    assert held.written(str) == form


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (20, "limit: 20 is a bare number; write for example '20 MW'"),
        ("20 kg", "limit: '20 kg' has the wrong unit; write for example '20 MW'"),
        (
            {"stepz": []},
            "limit: is no signal; write a value such as '20 MW', or a mapping with one of the "
            "keys steps, daily, sinusoid, csv, months, week",
        ),
        (
            {"steps": [["0 s", "20"]]},
            "limit.steps.0.1: '20' has no unit; write for example '20 MW'",
        ),
        ({"steps": [["0 s", "2 W"]], "step": 1}, "limit.step: unknown key; did you mean 'steps'?"),
        (
            {"steps": [["5 s", "2 W"], ["5 s", "3 W"]]},
            "limit: the times of steps must increase from one to the next; 5 s follows 5 s",
        ),
        (
            {"daily": [[750, "2 W"]]},
            "limit.daily.0.0: 750 is not a time of day; write for example '07:30' (in quotes) "
            "or '7.5 h'",
        ),
        (
            {"sinusoid": {"mean": "2 W", "period": "1 h"}},
            "limit.sinusoid.amplitude: is required but missing",
        ),
        ({"csv": "no.csv", "column": "a"}, "limit: cannot read no.csv: No such file or directory"),
    ],
)
def test_a_mistake_is_named(given: Any, message: str) -> None:
    assert problem(given) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,a\n0,1\n", "has no column 'mw'; it has time_s, a"),
        ("time_s,mw\n", "has a header but no rows"),
        ("time_s,mw\n0,1\n1,x\n", "line 3: 'x' is no number"),
        ("time_s,mw\n0,nan\n", "line 2: 'nan' is not finite"),
        ("time_s,mw\n3,1\n2,1\n", "must increase from one to the next; 2 s follows 3 s"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "limit.csv").write_text(text)
    assert message in problem({"csv": "limit.csv", "column": "mw", "unit": "MW"}, tmp_path)


def test_the_schema_offers_a_value_and_the_forms() -> None:
    schema = TypeAdapter(ShareSignal).json_schema()
    assert schema["anyOf"][0]["examples"] == ["70 %", 0.7]
    assert len(schema["anyOf"]) == 7
