"""Weather and dates: EPW files, time zones, price series with gaps; what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.factory.facility.climate import Climate
from factory_sim.scenario.load import load, scenario_from, to_yaml
from factory_sim.scenario.scenario import Scenario


def epw(path: Path, hours: int = 8760, zone: float = 1.0, spoil: str = "") -> Path:
    """Write a year in which the dry bulb is the day of the year over 10, plus the hour over 100."""
    lines = [f"LOCATION,Somewhere,-,DEU,Test,000000,50.0,8.6,{zone},100.0"]
    lines += [f"HEADER {number}" for number in range(7)]
    for hour in range(hours):
        day, of_day = divmod(hour, 24)
        dry = day / 10 + of_day / 100
        lines.append(f"2020,1,1,{of_day + 1},60,flags,{dry},5.0,50,100000,0")
    text = "\n".join(lines) + "\n"
    path.write_text(text.replace(",50,100000", f",{spoil or '50'},100000", 1))
    return path


def given(site: dict[str, Any], starts_at: str | None = "2025-07-15T12:00+00:00") -> dict[str, Any]:
    quick = {"name": "w", "duration": "60 s", "site": {"grid_limit": "1 MW"} | site}
    quick |= {
        "racks": [{"system": "dgx-h100", "count": 1}],
        "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 1}},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "poisson", "rate": "1 /s"},
                "lengths": {"prompt": 10, "output": 5},
            }
        },
    }
    return quick | ({"starts_at": starts_at} if starts_at else {})


def read(site: dict[str, Any], starts_at: str | None = "2025-07-15T12:00+00:00") -> Scenario:
    return scenario_from(given(site, starts_at))


def problem(site: dict[str, Any], starts_at: str | None = "2025-07-15T12:00+00:00") -> str:
    with pytest.raises(InputError) as error:
        read(site, starts_at)
    return "\n".join(map(str, error.value.problems))


class TestEpw:
    def test_starts_at_the_hour_of_the_year_in_its_own_zone(self, tmp_path: Path) -> None:
        file = str(epw(tmp_path / "a.epw"))
        # 12:00 UTC is 13:00 in the file's standard time; a value is that of its hour's end, so
        # at 13:00 on 15 July (day 195 from 0) it is the one of the hour 12 to 13.
        climate = Climate(read({"cooling": "air", "weather": {"epw": file}}).site.weather)
        assert climate.at(0.0).dry_c == pytest.approx(19.5 + 0.12)
        assert climate.at(1800.0).dry_c == pytest.approx(19.5 + 0.125)
        assert climate.at(0.0).wet_c < climate.at(0.0).dry_c

    def test_summer_time_is_no_other_moment(self, tmp_path: Path) -> None:
        file = str(epw(tmp_path / "a.epw"))
        site = {"cooling": "air", "weather": {"epw": file}}
        utc = Climate(read(site, "2025-07-15T12:00+00:00").site.weather)
        berlin = Climate(read(site, "2025-07-15T14:00+02:00").site.weather)
        assert utc.at(600.0) == berlin.at(600.0)

    def test_begins_again_after_a_year(self, tmp_path: Path) -> None:
        file = str(epw(tmp_path / "a.epw", zone=0.0))
        site = {"cooling": "air", "weather": {"epw": file}}
        climate = Climate(read(site, "2025-12-31T23:00+00:00").site.weather)
        assert climate.at(7200.0).dry_c == pytest.approx(0.0)

    def test_a_leap_day_shifts_no_date(self, tmp_path: Path) -> None:
        file = str(epw(tmp_path / "a.epw", zone=0.0))
        site = {"cooling": "air", "weather": {"epw": file}}
        days = ("2024-07-15", "2025-07-15", "2024-02-29", "2024-02-28")
        july, plain, leap, before = (
            Climate(read(site, f"{day}T12:00+00:00").site.weather).at(0.0) for day in days
        )
        assert july == plain
        assert leap == before

    def test_comes_back_from_the_resolved_scenario(self, tmp_path: Path) -> None:
        epw(tmp_path / "a.epw")
        file = tmp_path / "s.yaml"
        scenario = read({"cooling": "air", "weather": {"epw": str(tmp_path / "a.epw")}})
        file.write_text(to_yaml(scenario))
        assert load(file) == scenario

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            ({"hours": 8000}, "has 8,000 hours of weather; an EPW file has 8,760, one a line"),
            ({"spoil": "999"}, "line 9: a humidity of 999 is missing or impossible"),
            ({"spoil": "wet"}, "line 9: no number for the humidity"),
        ],
    )
    def test_a_bad_file_is_named(self, tmp_path: Path, make: dict[str, Any], message: str) -> None:
        file = epw(tmp_path / "a.epw", **make)
        assert message in problem({"cooling": "air", "weather": {"epw": str(file)}})

    def test_a_file_of_something_else_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.epw").write_text("hour,temperature\n" * 20)
        site = {"cooling": "air", "weather": {"epw": str(tmp_path / "a.epw")}}
        assert "its first line must start with LOCATION" in problem(site)
        site["weather"] = {"epw": str(tmp_path / "none.epw")}
        assert "cannot read" in problem(site)

    def test_needs_the_moment_of_the_start(self, tmp_path: Path) -> None:
        site = {"cooling": "air", "weather": {"epw": str(epw(tmp_path / "a.epw"))}}
        assert "give the scenario 'starts_at', for example" in problem(site, None)
        assert "has no offset from UTC" in problem(site, "2025-07-15T12:00")
        assert "is no date and time" in problem(site, "noon")


class TestTyped:
    def test_humidity_makes_a_wet_bulb(self) -> None:
        weather = {"dry_bulb": "25 degC", "humidity": "50 %"}
        air = Climate(read({"cooling": "air", "weather": weather}).site.weather).at(0.0)
        assert (air.dry_c, round(air.wet_c, 1)) == (25.0, 17.9)

    def test_the_hottest_of_the_run_is_what_is_designed_for(self) -> None:
        wave = {"sinusoid": {"mean": "20 degC", "amplitude": "10 degC", "period": "4 h"}}
        weather = {"dry_bulb": wave, "wet_bulb": "18 degC"}
        climate = Climate(read({"cooling": "air", "weather": weather}).site.weather)
        assert climate.hottest(4 * 3600.0).dry_c == pytest.approx(30.0, abs=0.6)
        assert climate.at(3 * 3600.0).wet_c == pytest.approx(10.0)  # never above the dry bulb

    @pytest.mark.parametrize(
        ("site", "message"),
        [
            ({"cooling": "air"}, "a cooling plant needs 'weather', for example"),
            ({"cooling": "air", "weather": {"dry_bulb": "20 degC", "wet_bulb": "25 degC"}},
             "a wet bulb is never above the dry bulb, and 25 degC is above 20 degC all day"),
            ({"pue": 1.3, "weather": {"dry_bulb": "20 degC", "wet_bulb": "15 degC"}},
             "a constant 'pue' knows no weather"),
            ({"pue": 1.3, "power_chain": "2n"}, "a 'pue' stands for the losses of a power chain"),
            ({"cooling": "air", "weather": {"dry_bulb": "20 degC"}},
             "give dry_bulb with either humidity or wet_bulb"),
            ({"cooling": "air", "weather": {"dry_bulb": 20, "humidity": 0.5}},
             "20 is not a temperature; write for example '25 degC'"),
            ({"cooling": "air", "weather": {"dry_bulb": "20 kW", "humidity": 0.5}},
             "'20 kW' is not a temperature"),
            ({"cooling": "air", "weather": {"dry_bulb": "20 degC", "humidity": "150 %"}},
             "weather.humidity: must be less than or equal to 1"),
            ({"cooling": "ice", "weather": {"dry_bulb": "20 degC", "humidity": 0.5}},
             "unknown cooling plant 'ice'"),
            ({"pue": 1.3, "battery": {"energy": "1 MWh", "power": "1 MW", "efficiency": "-90 %"}},
             "site.battery.efficiency: must be greater than 0"),
            ({"pue": 1.3, "price": "70 USD"}, "site.price: '70 USD' has the wrong unit"),
        ],
    )  # fmt: skip
    def test_what_does_not_go_together_is_refused(self, site: dict[str, Any], message: str) -> None:
        assert message in problem(site)

    def test_other_scales_are_converted_and_not_multiplied(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("time_s,f\n0,77\n3600,50\n")
        column = {"csv": str(tmp_path / "t.csv"), "column": "f", "unit": "degF"}
        weather = {"dry_bulb": column, "wet_bulb": "10 degC"}
        climate = Climate(read({"cooling": "air", "weather": weather}).site.weather)
        assert climate.at(0.0).dry_c == pytest.approx(25.0)
        assert climate.at(3600.0).dry_c == pytest.approx(10.0)
        wave = {"sinusoid": {"mean": "77 degF", "amplitude": "18 degF", "period": "4 h"}}
        scenario = read({"cooling": "air", "weather": {"dry_bulb": wave, "wet_bulb": "10 degC"}})
        assert Climate(scenario.site.weather).at(3600.0).dry_c == pytest.approx(35.0)
        file = tmp_path / "s.yaml"
        file.write_text(to_yaml(scenario))
        assert Climate(load(file).site.weather).at(3600.0).dry_c == pytest.approx(35.0)

    def test_what_a_file_or_a_wave_reaches_is_held_to_what_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "h.csv").write_text("time_s,h\n0,45\n3600,55\n")
        humidity: dict[str, Any] = {"csv": str(tmp_path / "h.csv"), "column": "h"}
        site = {"cooling": "air", "weather": {"dry_bulb": "20 degC", "humidity": humidity}}
        assert "h.csv, column h: 45 should be less than or equal to 1" in problem(site)
        humidity["unit"] = "%"
        assert Climate(read(site).site.weather).at(0.0).wet_c < 20.0
        wave = {"sinusoid": {"mean": 0.7, "amplitude": 0.4, "period": "4 h"}}
        site = {"cooling": "air", "weather": {"dry_bulb": "20 degC", "humidity": wave}}
        assert (
            "site.weather.humidity: swings to 1.1, which should be less than or equal to 1"
            in problem(site)
        )
        wave = {"sinusoid": {"mean": "10 kW", "amplitude": "20 kW", "period": "4 h"}}
        assert "site.generation: swings to -10000.0 W" in problem({"pue": 1.3, "generation": wave})


class TestDates:
    def prices(self, folder: Path, rows: list[str], **more: Any) -> dict[str, Any]:
        (folder / "p.csv").write_text("hour,price\n" + "\n".join(rows) + "\n")
        form = {"csv": str(folder / "p.csv"), "column": "price", "unit": "USD/MWh", "time": "hour"}
        return {"pue": 1.3, "price": form | more}

    def test_count_from_the_start_of_the_run(self, tmp_path: Path) -> None:
        rows = [f"2025-07-15T{hour:02}:00+02:00,{hour}" for hour in range(24)]
        price: Any = read(self.prices(tmp_path, rows)).site.price
        # 12:00 UTC is 14:00 there.
        assert price.at(0.0) * 3.6e9 == pytest.approx(14.0)
        assert price.at(3600.0) * 3.6e9 == pytest.approx(15.0)

    def test_local_times_need_their_zone_and_know_winter_time(self, tmp_path: Path) -> None:
        # The night of 26 October 2025 in Berlin: the hour from 2 to 3 comes twice.
        rows = [f"2025-10-26 {hour},{number}" for number, hour in enumerate(
            ("01:00", "02:00", "02:00", "03:00", "04:00"))]  # fmt: skip
        site = self.prices(tmp_path, rows, timezone="Europe/Berlin")
        price: Any = read(site, "2025-10-26T00:00+00:00").site.price
        assert [round(price.at(3600.0 * h) * 3.6e9) for h in range(4)] == [1, 2, 3, 4]
        del site["price"]["timezone"]
        assert "say which zone it is local to, for example 'timezone: Europe/Berlin'" in problem(
            site, "2025-10-26T00:00+00:00"
        )
        site["price"]["timezone"] = "Berlin"
        assert "'Berlin' is no time zone" in problem(site, "2025-10-26T00:00+00:00")

    def test_dates_count_in_no_unit_and_numbers_are_local_to_no_zone(self, tmp_path: Path) -> None:
        rows = [f"2025-07-15T{hour:02}:00Z,{hour}" for hour in range(24)]
        assert "site.price.time_unit: the times in" in problem(
            self.prices(tmp_path, rows, time_unit="h")
        )
        assert "site.price.timezone: the times in" in problem(
            self.prices(tmp_path, ["0,1", "3600,2"], timezone="UTC")
        )

    def test_a_gap_is_named(self, tmp_path: Path) -> None:
        rows = [f"2025-07-15T{hour:02}:00Z,{hour}" for hour in range(24) if hour != 13]
        assert "has a gap of 2 h after 2025-07-15T12:00Z, where its values are 1 h apart" in (
            problem(self.prices(tmp_path, rows))
        )
        rows[3] = "2025-07-15T03:00Z,"
        assert "line 5: '' is no number" in problem(self.prices(tmp_path, rows))

    def test_a_series_of_another_day_is_refused(self, tmp_path: Path) -> None:
        rows = [f"2025-07-14T{hour:02}:00Z,{hour}" for hour in range(24)]
        assert "does not hold the start of the run" in problem(self.prices(tmp_path, rows))

    def test_dates_need_the_moment_of_the_start(self, tmp_path: Path) -> None:
        rows = ["2025-07-15T12:00Z,1", "2025-07-15T13:00Z,2"]
        assert "are dates; give the scenario the moment" in problem(
            self.prices(tmp_path, rows), None
        )

    def test_a_time_of_day_counts_from_the_local_start(self) -> None:
        daily = {"daily": [["00:00", "0 USD/MWh"], ["12:00", "120 USD/MWh"]]}
        price: Any = read({"pue": 1.3, "price": daily}, "2025-07-15T06:00+02:00").site.price
        assert price.at(0.0) * 3.6e9 == pytest.approx(60.0)
