"""Claims: formulas over results, operating points, and what is said of a bad file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from factory_sim.errors import InputError
from factory_sim.experiments.claims import (
    Claim,
    Figure,
    Found,
    built_in_claims,
    examine,
    read_claim,
)
from factory_sim.experiments.formula import Formula
from factory_sim.frozen import validate
from factory_sim.report.claims import lines, page, picture
from factory_sim.report.plots.fronts import png

SUMMARIES = {"a": {"ttft_ms": {"p99": 40.0}, "pue": 1.2}, "b": {"pue": 1.5}}


class TestFormula:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("a.ttft_ms.p99", 40.0),
            ("b.pue / a.pue", 1.25),
            ("(a.ttft_ms.p99 - 4) * 2 + 1 / 2", 72.5),
        ],
    )
    def test_is_computed_from_summaries(self, text: str, value: float) -> None:
        assert Formula(text).value(SUMMARIES) == pytest.approx(value, rel=1e-12)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a.pue +", "is no formula"),
            ("__import__('os')", "neither a number nor a figure"),
            ("a.pue ** 2", "neither a number nor a figure"),
            ("'a' + 1", "neither a number nor a figure"),
            ("True + 1", "neither a number nor a figure"),
            ("a", "neither a number nor a figure"),
            ("(a.pue).real()", "neither a number nor a figure"),
        ],
    )
    def test_is_sums_and_products_alone(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Formula(text)

    def test_names_the_figure_that_is_not_there(self) -> None:
        with pytest.raises(ValueError, match=r"a run of 'b' has no figure 'ttft_ms\.p99'"):
            Formula("b.ttft_ms.p99").value(SUMMARIES)


@pytest.mark.parametrize(
    ("claimed", "gap"),
    [(50.0, 0.2), (60.0, 0.0), ((40.0, 70.0), 0.0), ((80.0, 90.0), -0.25), ((20.0, 30.0), 1.0)],
)
def test_the_gap_is_to_the_nearest_value_claimed(claimed: Any, gap: float) -> None:
    found = Found(Figure(what="w", formula="a.pue", claimed=claimed), 60.0)
    assert found.gap == pytest.approx(gap, abs=1e-12)


SMALL: dict[str, Any] = {
    "title": "More users, slower each",
    "claim": "a batch shares its steps",
    "source": "arithmetic",
    "kind": "arithmetic",
    "scenario": {
        "name": "small",
        "duration": "20 s",
        "site": {"grid_limit": "1 MW", "pue": 1.3},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 1}},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "closed", "concurrency": 1},
                "lengths": {"prompt": 100, "output": 50},
            }
        },
    },
    "variants": {"long": {"workload.w.lengths.output": 100}, "short": {}},
    "figures": [
        {"what": "pace", "formula": "long.interactivity_tokens_per_s_per_user", "claimed": 100.0},
        {"what": "both", "formula": "short.requests_completed + long.requests_completed"},
    ],
}
MATCHED = SMALL | {
    "match": {
        "field": "workload.w.arrivals.concurrency",
        "figure": "interactivity_tokens_per_s_per_user",
        "least": 100,
        "high": 64,
    }
}


def test_a_variant_is_brought_to_its_operating_point() -> None:
    claim = validate(Claim, MATCHED)
    (result,) = examine([claim])
    pace = result.found[0].simulated
    assert 100.0 <= pace < 110.0
    least = result.matched["long"]
    assert 2 <= least < 64
    scenario = SMALL["scenario"] | {
        "workload": {
            "w": SMALL["scenario"]["workload"]["w"]
            | {
                "arrivals": {"process": "closed", "concurrency": least + 1},
                "lengths": {"prompt": 100, "output": 100},
            }
        }
    }
    one_more = validate(
        Claim, SMALL | {"scenario": scenario, "variants": {"long": {}, "short": {}}}
    )
    (beyond,) = examine([one_more])
    assert beyond.found[0].simulated < 100.0


def test_the_same_on_any_number_of_workers() -> None:
    claims = [validate(Claim, SMALL), validate(Claim, SMALL | {"title": "again"})]
    assert list(examine(claims, 1)) == list(examine(claims, 2))


def test_text_and_page_show_every_figure() -> None:
    results = list(examine([validate(Claim, SMALL)]))
    text = "\n".join(lines(results[0]))
    written = page(results, "factory-sim claims")
    for shown in (text, written):
        assert "pace" in shown
        assert "both" in shown
        assert "100" in shown
    assert written.count("[More users, slower each](#more-users-slower-each)") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": {}}, "variants: "),
        (
            {"figures": [{"what": "w", "formula": "other.pue"}]},
            r"names \['other'\]; it may",
        ),
        ({"match": MATCHED["match"] | {"most": 3}}, "give either 'least' or 'most'"),
        ({"kind": "rumour"}, "kind: "),
        ({"sauce": "x"}, "sauce"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(SMALL | change))
    with pytest.raises(InputError, match=f"c.yaml.*{message}"):
        read_claim(file)


def test_an_operating_point_that_is_never_reached_is_said() -> None:
    claim = validate(Claim, MATCHED | {"match": MATCHED["match"] | {"least": 1e6}})
    with pytest.raises(InputError, match=r"variant long: match: interactivity.* is not kept even"):
        list(examine([claim]))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("long.nonsense", "More users, slower each: w: a run of 'long' has no figure 'nonsense'"),
        ("long.pue / (short.pue - 1.3)", "divides by 0"),
    ],
)
def test_a_figure_that_cannot_be_computed_is_named(formula: str, message: str) -> None:
    claim = validate(Claim, SMALL | {"figures": [{"what": "w", "formula": formula}]})
    with pytest.raises(InputError, match=message):
        list(examine([claim]))


def test_a_variant_that_cannot_be_run_is_named() -> None:
    claim = validate(Claim, SMALL | {"variants": {"long": {}, "short": {"duration": "-1 s"}}})
    with pytest.raises(InputError, match="More users, slower each, variant short: duration"):
        list(examine([claim]))


def test_what_ships_can_be_read() -> None:
    claims = [read_claim(path) for path in built_in_claims()]
    assert len(claims) >= 7
    assert len({claim.title for claim in claims}) == len(claims)


CURVED: dict[str, Any] = SMALL | {
    "curve": {
        "field": "workload.w.arrivals.concurrency",
        "values": [1, 4, 16],
        "x": ["pace of one user", "interactivity_tokens_per_s_per_user"],
        "y": ["tokens/s", "output_tokens_per_s"],
        "fronts": {"any": ["short", "long"]},
    },
    "figures": [
        {"what": "at a slow pace", "formula": "any.output_tokens_per_s", "at": 1.0, "claimed": 2},
        {"what": "most", "formula": "any.output_tokens_per_s", "at": "highest", "unit": "times"},
        {"what": "pace of one", "formula": "any.output_tokens_per_s", "where": 1.0},
    ],
}


def test_a_curve_is_run_at_every_value_and_read_off() -> None:
    (result,) = examine([validate(Claim, CURVED)])
    low, highest, nowhere = (found.simulated for found in result.found)
    front = result.fronts["any"]
    points = [front.line(design, "output_tokens_per_s") for design in front.designs]
    assert [len(line) for line in points] == [3, 3]
    assert low == highest == max(value for line in points for _, value in line)
    assert nowhere != nowhere  # nobody is as slow as that
    text = page([result], "factory-sim claims")
    assert "| pace of one |  | nowhere |  |" in text
    assert png(result).startswith(b"\x89PNG") and picture(result) in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curve": CURVED["curve"] | {"fronts": {"any": ["x"]}}}, "which are no variants"),
        ({"figures": [{"what": "w", "formula": "any.pue"}]}, "give 'at' or 'where' with a curve"),
        ({"figures": [{"what": "w", "formula": "3 + 4", "where": 3}]}, "names no front; it may"),
        ({"variants": CURVED["variants"] | {"x": {}}}, r"no front of the curve has .*'x'"),
        ({"figures": [{"what": "w", "formula": "short.pue", "at": 1}]}, "it may name any"),
        ({"match": MATCHED["match"]}, "either 'match' or 'curve'"),
    ],
)
def test_a_bad_curve_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(Claim, CURVED | change)


def test_a_curve_of_a_figure_that_no_run_has_is_named_before_it_is_drawn() -> None:
    claim = validate(Claim, CURVED | {"curve": CURVED["curve"] | {"y": ["y", "nothing"]}})
    with pytest.raises(InputError, match=r"curve: a run of '.*' has no figure 'nothing'"):
        next(iter(examine([claim])))


@pytest.mark.slow
def test_the_page_holds_what_is_simulated() -> None:
    root = Path(__file__).parents[2]
    results = list(examine([read_claim(path) for path in built_in_claims()], 2))
    assert page(results, "factory-sim claims --page docs/claims.md") == (
        root / "docs" / "claims.md"
    ).read_text(encoding="utf-8")
