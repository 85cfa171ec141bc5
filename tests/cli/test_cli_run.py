"""`factory-sim run`: what goes in, what comes out on which stream, how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from factory_sim.errors import InputError, Problem
from factory_sim.report import folder


def test_a_run_prints_its_summary_and_its_folder(engine, factory_sim_command):
    code, out, err = factory_sim_command("run", "--no-plots")
    assert (code, err) == (0, "")
    assert out.startswith(
        "synthetic: 96 GPUs, measured from 1 min to 10 min of simulated time, seed 1\n"
    )
    assert out.endswith("\nrun folder: runs/synthetic\n")
    assert folder.read(Path("runs/synthetic")).summary == engine.run.summary
    asked = {"path": None, "overrides": [], "catalog": None, "progress": None, "workers": None}
    assert engine.asked == asked


def test_arguments_reach_the_scenario(engine, factory_sim_command):
    arguments = ["--set", "a.b=1 kW", "--set", "c=2", "--seed", "7", "--catalog", "mine"]
    ended = factory_sim_command("run", "site.yaml", *arguments, "--no-plots")
    assert ended.code == 0
    assert engine.asked["path"] == Path("site.yaml")
    assert engine.asked["overrides"] == ["a.b=1 kW", "c=2", "seed=7"]
    assert engine.asked["catalog"] == Path("mine")


def test_json_is_all_there_is_on_stdout(engine, factory_sim_command):
    code, out, err = factory_sim_command("run", "--json", "--no-plots")
    assert code == 0
    assert json.loads(out) == engine.run.summary
    assert out == Path("runs/synthetic/summary.json").read_text()
    assert err == "\nrun folder: runs/synthetic\n"


def test_plots_are_drawn_unless_told_otherwise(engine, factory_sim_command):
    assert factory_sim_command("run", "--out", "a").code == 0
    assert factory_sim_command("run", "--out", "b", "--no-plots").code == 0
    assert Path("a/plots/latency.png").stat().st_size > 10_000
    assert not Path("b/plots").exists()


def test_a_plot_that_fails_costs_a_warning(engine, factory_sim_command, monkeypatch):
    from factory_sim.report import plots

    def broken(run: folder.SavedRun) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "PLOTS", {"latency": broken})
    code, _, err = factory_sim_command("run", "--out", "a")
    assert code == 0
    assert err == "warning: a/plots/latency.png is missing: no ink\n"
    assert len(folder.read(Path("a")).requests) == 300


def test_the_default_folder_is_never_taken_twice(engine, factory_sim_command):
    ends = [factory_sim_command("run", "--no-plots").out.split()[-1] for _ in range(3)]
    assert ends == ["runs/synthetic", "runs/synthetic-2", "runs/synthetic-3"]


def test_a_folder_in_use_is_refused_before_the_run(engine, factory_sim_command):
    factory_sim_command("run", "--out", "a", "--no-plots")
    engine.asked.clear()
    code, out, err = factory_sim_command("run", "--out", "a", "--no-plots")
    assert (code, out) == (2, "")
    assert err == (
        "error: --out: a exists already; name another folder, or replace it with --force\n"
    )
    assert "progress" not in engine.asked, "nothing was simulated"


def test_force_replaces(engine, factory_sim_command):
    for _ in range(2):
        assert factory_sim_command("run", "--out", "a", "--force", "--no-plots").code == 0
        assert factory_sim_command("run", "--force", "--no-plots").code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["a", "runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["synthetic"]


def test_every_problem_is_one_line(engine, factory_sim_command):
    engine.error = InputError([Problem("site.grid_limit", "is too low"), Problem("", "no idea")])
    code, out, err = factory_sim_command("run")
    assert (code, out) == (2, "")
    assert err == "error: site.grid_limit: is too low\nerror: no idea\n"
    assert list(Path().iterdir()) == []


def test_interrupted_is_one_line_and_leaves_nothing(engine, factory_sim_command):
    engine.error = KeyboardInterrupt()
    assert factory_sim_command("run") == (130, "", "interrupted\n")
    assert list(Path().iterdir()) == []


def test_a_mistyped_option_is_a_usage_error(engine, factory_sim_command):
    code, out, err = factory_sim_command("run", "--sede", "1")
    assert (code, out) == (2, "")
    assert "--sede" in err and "--seed" in err


def test_a_bar_is_drawn_only_for_a_person(engine, factory_sim_command, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = factory_sim_command("run", "--no-plots")
    assert code == 0
    assert "5 min of 10 min" in err
    assert "140 of 150 requests" in err
    assert "5 min of" not in out


def test_uncertainty_adds_a_band_to_summary_and_terminal(engine, factory_sim_command, monkeypatch):
    from factory_sim.experiments import uncertainty

    asked = []

    def bands(scenario, summary, *, workers, progress):
        asked.append((scenario, summary["ttft_ms"]["p99"], progress))
        return {"ttft_ms.p99": [1.0, 1e4]}

    monkeypatch.setattr(uncertainty, "bands", bands)
    code, out, err = factory_sim_command("run", "--no-plots", "--uncertainty")
    assert (code, err) == (0, "")
    assert "How sure" in out
    saved = folder.read(Path("runs/synthetic")).summary
    assert saved["uncertainty"] == {"ttft_ms.p99": [1.0, 1e4]}
    assert asked == [(engine.run.scenario, engine.run.summary["ttft_ms"]["p99"], None)]
