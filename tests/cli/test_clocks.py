"""`factory-sim clocks`: what each clock yields, and the best of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import factory_sim as fs
from factory_sim.experiments.clocks import best, clocks
from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.report.text import number


def test_prints_a_row_a_clock_and_the_best(factory_sim_command):
    code, out, err = factory_sim_command("clocks")
    assert (code, err) == (0, "")
    assert out.startswith("chat, for requests of chat: each clock in each phase\n")
    shown = [int(share) for share in re.findall(r"^  (\d+) %  ", out, re.MULTILINE)]
    assert shown == list(range(100, 45, -5))
    assert re.search(r"least J in prefill +\d+ % of the reference clock: \d+ % less energy", out)
    assert re.search(r"least J in decode +\d+ % of the reference clock", out)


def test_its_points_are_those_of_a_run_at_that_clock() -> None:
    # Decode with a steady batch: the run's watts and pace at 70 % are the point's.
    layout = lay_out(fs.load())
    (fleet,) = layout.fleets
    points = clocks(layout, fleet, 1155.0, 211.0)
    assert [round(point.clock, 2) for point in points[:3]] == [1.0, 0.95, 0.9]
    full, slow = points[0], points[6]
    assert best(points, "prefill").clock < 1.0
    assert best(points, "decode").clock <= best(points, "prefill").clock
    # Compute slows with the clock, memory by a seventh of that, and watts more than either.
    assert 0.7 < slow.prefill.tokens_per_s / full.prefill.tokens_per_s < 0.9
    assert 0.9 < slow.decode.tokens_per_s / full.decode.tokens_per_s < 1.0
    assert slow.prefill.gpu_w / full.prefill.gpu_w < 0.7
    for point in points:
        for phase in (point.prefill, point.decode):
            assert phase.site_j > 1.3 * phase.gpu_j  # hosts, and a PUE of 1.3


def test_steps_with_prompts_encode_the_images_that_come_with_them(factory_sim_command):
    config = str(Path(__file__).parents[2] / "configs" / "images.yaml")
    layout = lay_out(fs.load(config))
    (fleet,) = layout.fleets
    (plain, *_), (seen, *_) = (clocks(layout, fleet, 700.0, 200.0, 0.0, n) for n in (0.0, 0.5))
    step_time, tokens = roofline(fleet, 1.0), fleet.max_step_tokens
    encoding_s = step_time.encode(1).duration_s * tokens / 1400  # an image with two prompts
    plain_s, seen_s = (tokens / point.prefill.tokens_per_s for point in (plain, seen))
    assert seen_s - plain_s == pytest.approx(encoding_s, rel=0.05)  # together cost a little less
    assert encoding_s > 0.2 * plain_s
    code, out, _ = factory_sim_command("clocks", config)
    assert code == 0
    assert number(seen.prefill.tokens_per_s) in out
    code, out, _ = factory_sim_command("clocks", config.replace("images", "encoder"))
    assert out.startswith("chat/encode makes no tokens, only images: it is not shown\n")
    assert number(plain.prefill.tokens_per_s) in out  # the others encode nothing


def test_a_limit_of_the_boards_holds_where_a_phase_would_pass_it() -> None:
    layout = lay_out(fs.load(overrides=["racks.0.gpu_power_limit=500 W", "racks.0.gpu_clock=0.9"]))
    (fleet,) = layout.fleets
    points = clocks(layout, fleet, 1155.0, 211.0)
    assert points[0].clock == 0.9
    assert 480.0 < points[0].prefill.gpu_w <= 500.0


def test_a_site_that_cannot_be_is_refused(factory_sim_command):
    code, out, err = factory_sim_command("clocks", "--set", "site.grid_limit=1 kW")
    assert (code, out) == (2, "")
    assert err.startswith("error: racks.0.count: no rack fits")
