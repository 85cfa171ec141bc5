"""The README keeps its word: its output is what is printed, its examples run as they stand."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml

from factory_sim.catalog import load_catalog
from factory_sim.cli import main
from factory_sim.factory.run import Run, simulate
from factory_sim.report.folder import save
from factory_sim.scenario.load import load, scenario_from
from tests.factory import several_sites
from tests.factory.facility.sites import building, site_of
from tests.factory.test_disaggregated_runs import disaggregated
from tests.factory.test_scaling import scaled

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, heading: str = "") -> list[str]:
    """Return the README's fenced blocks in a language, those below a heading where one is given."""
    text = README[README.index(heading) :]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run_cli(*arguments: str) -> str:
    """Return what `factory-sim` with these arguments prints on standard output."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["factory-sim", *arguments])
        patch.delenv("COLUMNS", raising=False)
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return out.getvalue()


class Quickstart(NamedTuple):
    """The quickstart, run once in a folder without a checkout: it needs what is installed."""

    printed: str
    folder: Path


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    here = tmp_path_factory.mktemp("quickstart")
    with contextlib.chdir(here):
        printed = run_cli("run", "--no-plots")
    return Quickstart(printed, here / "runs" / "quickstart")


def test_the_quickstart_prints_the_excerpt(quickstart: Quickstart) -> None:
    at = 0
    for piece in blocks("text")[0].split("...\n"):
        assert piece.rstrip("\n") in quickstart.printed[at:]
        at = quickstart.printed.index(piece.rstrip("\n"), at)
    assert quickstart.printed.endswith("\nrun folder: runs/quickstart\n")


def test_a_report_of_the_quickstart_is_small_and_soon_there(quickstart: Quickstart) -> None:
    (command,) = [
        line for block in blocks("sh") for line in block.splitlines() if " report " in line
    ]
    arguments = command.partition("#")[0].split()
    with contextlib.chdir(quickstart.folder.parents[1]):
        started = time.process_time()
        assert run_cli(*arguments[1:]) == "report: report.html\n"
        assert time.process_time() - started < 10.0  # 5 s where nothing else runs
        assert Path("report.html").stat().st_size < 3_000_000


def test_the_quickstart_can_be_watched(quickstart: Quickstart) -> None:
    said = [line for block in blocks("sh") for line in block.splitlines()]
    with contextlib.chdir(quickstart.folder.parents[1]):
        for name, start in (("trace", b"\x1f\x8b"), ("film", b"<!doctype html>")):
            (command,) = [line for line in said if line.startswith(f"factory-sim {name} ")]
            arguments = shlex.split(command)
            assert run_cli(*arguments[1:]).startswith(f"{name}: ")
            assert Path(arguments[-1]).read_bytes().startswith(start)


def test_the_quickstart_shows_the_cap_at_work(quickstart: Quickstart) -> None:
    summary = json.loads((quickstart.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["clock"]["share_below_reference"] >= 0.05
    assert summary["utilisation"]["mean_batch"] > 10
    assert summary["ttft_ms"]["p99"] > 2 * summary["ttft_ms"]["p50"]  # requests queue


def keys_of(found: dict[str, Any]) -> Iterator[str]:
    """Yield every key at every depth, except the names that a scenario or a run makes up."""
    for key, value in found.items():
        yield key
        if isinstance(value, dict) and key not in ("versions", "engine"):
            named = (
                "deployments",
                "classes",
                "tenants",
                "limits",
                "links",
                "represented_replicas",
                "models",
                "oee_racks",
                "sites",
            )
            inner = value.values() if key in named else [value]
            for part in inner:
                yield from keys_of(part)


def everything() -> Iterator[Run]:
    """Yield runs that together have every part a site may have."""
    price = {"steps": [["0 s", "20 USD/MWh"], ["10 s", "90 USD/MWh"]]}
    site = building(
        grid_limit="100 kW",
        cooling="liquid",
        battery={"energy": "1 kWh", "power": "10 kW"},
        generation="5 kW",
        price="60 USD/MWh",
        carbon="300 g/kWh",
    )
    yield simulate(
        site_of(
            duration="30 s",
            site=site,
            racks=[{"system": "dgx-h100", "count": 2, "liquid_share": "60 %"}],
            power={"preference": {"limit": "30 kW", "price": price, "worth": "50 USD/MWh"}},
            failures={"schedule": [{"at": "20 s", "what": "rack-1", "lasts": "5 s"}]},
        )
    )
    few = {"d": {"model": "llama-3.1-8b", "replicas": {"simulate": 32}}}
    rows = [{"system": "dgx-h100", "count": 4}]
    yield simulate(site_of(duration="20 s", racks=rows, deployments=few))
    yield simulate(disaggregated())
    yield simulate(several_sites.two(duration="10 s"))
    spread = ["duration=20 s", "warmup=1 s", "failures.schedule.0.at=5 s"]
    yield simulate(load(ROOT / "configs" / "fabric.yaml", spread))
    two = {"steps": [["0 s", 2], ["30 s", 1]]}
    drained = {"policy": "scheduled", "replicas": two, "drain_deadline": "1 s"}
    few = {"process": "closed", "concurrency": 8, "requests": 100}
    yield simulate(scaled(drained, arrivals=few, lengths={"prompt": 100, "output": 2000}))
    started = {"policy": "scheduled", "replicas": {"steps": [["0 s", 0], ["15 s", 1]]}}
    yield simulate(scaled(started))
    engine = "{max_num_seqs: 64, gpu_memory_utilization: 0.28, preemption: swap}"
    tiers = "{interactive: {slo: {ttft: 1 s}, price: {input: 1 USD/Mtoken, output: 2 USD/Mtoken}}}"
    both = [f"deployments.chat.engine={engine}", f"classes={tiers}", "duration=20 s", "warmup=1 s"]
    others = [f"workload.{name}.class=interactive" for name in ("app", "api", "nightly")]
    spans = "{electricity: {low: 80 %, high: 150 %}}"
    both += [f"costs={{like: us-2025, ranges: {spans}}}", "site.price=0.07 USD/kWh"]
    yield simulate(load(ROOT / "configs" / "classes.yaml", both + others))


@pytest.fixture(scope="module")
def folders(quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = [quickstart.folder]
    for index, run in enumerate(everything()):
        found.append(tmp_path_factory.mktemp("everything") / str(index))
        save(run, found[-1], plots=False, force=True)
    return found


def test_the_glossary_has_every_key_and_column(folders: list[Path]) -> None:
    for folder in folders:
        assert words_of(folder) - known_words() == set(), folder.name


def known_words() -> set[str]:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    known = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", glossary))))
    return known | {"measured", "datasheet", "calibrated", "estimate"}  # the kinds of figures


def words_of(folder: Path) -> set[str]:
    """Return every key and column of a run."""
    words = set(keys_of(json.loads((folder / "summary.json").read_text(encoding="utf-8"))))
    words |= set(keys_of(json.loads((folder / "run.json").read_text(encoding="utf-8"))))
    for table in ("requests", "timeseries"):
        columns = pq.read_schema(folder / f"{table}.parquet").names
        words |= {column.rpartition(".")[2] for column in columns}
    return words


@pytest.mark.slow
def test_the_python_example_prints_what_it_says(tmp_path: Path) -> None:
    (code,) = blocks("python")
    printed = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == blocks("text", "### From Python")[0]


def test_the_scenario_shown_is_the_one_built_in() -> None:
    shown = yaml.safe_load(blocks("yaml")[0])
    assert scenario_from(shown) == load()


def test_your_own_hardware_runs(tmp_path: Path) -> None:
    below = "## Where the numbers come from"
    (tmp_path / "mine").mkdir()
    for text in blocks("yaml", below):
        name = text.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(text, encoding="utf-8")
    program, verb, *options = blocks("sh", below)[0].split()
    assert (program, verb) == ("factory-sim", "run")
    with contextlib.chdir(tmp_path):
        printed = run_cli("check", *options)
    assert "of 4 Acme 1\n" in printed


def test_the_plots_are_there_and_small() -> None:
    paths = re.findall(r"!\[[^]]+\]\((\S+)\)", README)
    assert len(paths) == 4
    for path in paths:
        assert (ROOT / path).stat().st_size < 120_000


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_catalogue_holds_as_many_entries_as_said() -> None:
    catalog = load_catalog()
    for section in ("accelerators", "systems", "models"):
        said = re.findall(rf"(\d+)\s{section}", README)
        assert said == [str(len(getattr(catalog, section)))]
