"""A sweep is one table, whoever does its runs, in what order, and however often it is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import factory_sim as fs
from factory_sim import atomic
from factory_sim.errors import InputError
from factory_sim.experiments.runs import crews
from factory_sim.experiments.runs import task as runs_task
from factory_sim.experiments.runs.crews import DIED, Alone, Cluster, Crew, Pool
from factory_sim.experiments.runs.task import Task, execute
from factory_sim.experiments.sweep.run import Swept, run_sweep
from factory_sim.experiments.sweep.spec import read_sweep
from factory_sim.scenario.load import override, scenario_from
from tests.cores import bare_seconds
from tests.experiments.sweeps import (
    RATE,
    REPLICAS,
    SMALL,
    Counting,
    dying_always,
    dying_once,
    small_sweep,
)


def swept(out: Path, crew: Crew | None = None, **fields: Any) -> Swept:
    return run_sweep(read_sweep(small_sweep(**fields)), crew or Alone(), out)


def index(out: Path) -> bytes:
    return (out / "index.parquet").read_bytes()


def summary(seed: int, **fields: Any) -> dict[str, Any]:
    given = json.loads(json.dumps(SMALL)) | {"seed": seed}
    for path, value in fields.items():
        override(given, path, value)
    return fs.simulate(scenario_from(given)).summary


class TestTable:
    def test_has_a_row_for_each_run_and_its_figures(self, tmp_path: Path) -> None:
        metrics = ["ttft_ms.p99", "requests_arrived", "bottleneck", "slo"]
        with pytest.raises(InputError, match=r"metrics\.3: no run has a figure 'slo'"):
            swept(tmp_path, metrics=metrics)
        crew = Counting()
        table = swept(tmp_path, crew, metrics=metrics[:3]).runs
        assert crew.done == []  # the mistake cost no run
        assert list(table.columns) == [
            "point",
            "replication",
            "seed",
            f"{RATE} [/s]",
            "status",
            "cause",
            "run",
            *metrics[:3],
        ]
        assert table["point"].tolist() == [0, 0, 1, 1]
        assert table["replication"].tolist() == [0, 1, 0, 1]
        assert table["seed"].tolist() == [3, 4, 3, 4]
        assert table[f"{RATE} [/s]"].tolist() == [5.0, 5.0, 20.0, 20.0]
        assert (table["status"] == "done").all() and (table["cause"] == "").all()
        for row in table.to_dict("records"):
            found = summary(row["seed"], **{RATE: f"{row[f'{RATE} [/s]']} /s"})
            assert row["ttft_ms.p99"] == found["ttft_ms"]["p99"]
            assert row["requests_arrived"] == found["requests_arrived"]
            assert row["bottleneck"] == found["bottleneck"]
        pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "index.parquet"))

    def test_the_same_requests_come_at_every_point(self, tmp_path: Path) -> None:
        metrics = ["requests_arrived", "ttft_ms.mean", "grid_power_mw.mean"]
        table = swept(tmp_path, axes={"site.pue": [1.1, 1.4]}, replications=3, metrics=metrics).runs
        first, second = (own.reset_index(drop=True) for _, own in table.groupby("point"))
        assert first["ttft_ms.mean"].tolist() == second["ttft_ms.mean"].tolist()
        assert first["ttft_ms.mean"].nunique() == 3
        assert (first["grid_power_mw.mean"] < second["grid_power_mw.mean"]).all()

    def test_points_have_means_and_their_intervals(self, tmp_path: Path) -> None:
        found = swept(tmp_path, metrics=["requests_arrived"], replications=3)
        counts = found.runs["requests_arrived"].to_numpy().reshape(2, 3)
        points = found.points
        assert points["requests_arrived"].tolist() == pytest.approx(counts.mean(axis=1))
        spread = 4.302652729911275 * counts.std(axis=1, ddof=1) / 3**0.5  # Student's t of 2
        assert points["requests_arrived.half_width"].tolist() == pytest.approx(spread)
        assert points["runs"].tolist() == [3, 3]

    def test_what_a_ledger_leaves_out_is_nothing(self, tmp_path: Path) -> None:
        table = swept(tmp_path, axes={REPLICAS: [1, 2], "deployments.d.parallelism.tp": [1, 2]})
        shares = table.runs.filter(like="time_lost.")
        assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 8)
        assert set(table.runs["time_lost.communication"].round(9) > 0.0) == {True, False}

    def test_values_that_are_no_numbers_stand_as_they_are(self, tmp_path: Path) -> None:
        engines = [{"max_num_seqs": 1}, {}]
        routers = ["random", "round-robin"]
        axes = {"deployments.d.engine": engines, "deployments.d.router": routers}
        table = swept(tmp_path, axes=axes, replications=1).runs
        assert table["deployments.d.engine"].tolist() == ['{"max_num_seqs": 1}'] * 2 + ["{}"] * 2
        assert table["deployments.d.router"].tolist() == routers * 2

    def test_the_public_function_returns_it(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        table = fs.sweep(small_sweep(axes={RATE: ["5 /s"]}), workers=1)
        assert len(table) == 2
        assert (tmp_path / "sweeps" / "tiny" / "index.parquet").is_file()

    def test_requests_are_kept_where_asked(self, tmp_path: Path) -> None:
        swept(tmp_path, axes={RATE: ["5 /s"]})
        crew = Counting()
        found = swept(tmp_path, crew, axes={RATE: ["5 /s"]}, requests=True)
        assert len(crew.done) == 2  # they had no requests so far
        for run in found.runs.to_dict("records"):
            requests = pd.read_parquet(tmp_path / f"requests/{run['run'][:2]}/{run['run']}.parquet")
            expected = fs.simulate(scenario_from(SMALL | {"seed": run["seed"]})).requests
            pd.testing.assert_frame_equal(requests, expected)


class TestStore:
    def test_a_run_is_done_once(self, tmp_path: Path) -> None:
        first, second, third = Counting(), Counting(), Counting()
        swept(tmp_path, first)
        swept(tmp_path, second, axes={RATE: ["20 /s", "40 /s"]}, replications=3)
        swept(tmp_path, third)
        assert len(first.done) == 4
        assert len(second.done) == 4  # one more of 20 /s, three of 40 /s
        assert third.done == []

    def test_points_that_are_the_same_scenario_share_a_run(self, tmp_path: Path) -> None:
        crew = Counting()
        table = swept(tmp_path, crew, axes={RATE: ["5 /s", "300 /min"]}).runs
        assert len(crew.done) == 2
        assert table["ttft_ms.p99"].tolist()[:2] == table["ttft_ms.p99"].tolist()[2:]

    def test_another_release_does_its_own_runs(self, tmp_path: Path, monkeypatch: Any) -> None:
        swept(tmp_path)
        crew = Counting()
        monkeypatch.setattr(runs_task, "release", lambda: "0.2.0+abc")
        swept(tmp_path, crew)
        assert len(crew.done) == 4

    def test_a_file_that_changed_makes_another_run(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace.csv"
        arrivals = {"process": "trace", "path": str(trace)}
        replaced = {"workload.w": {"deployment": "d", "arrivals": arrivals}}
        counts = []
        for last in (44, 45, 45):
            trace.write_text(f"arrival_s,input_toks,output_toks\n0.0,374,44\n1.3,396,{last}\n")
            crew = Counting()
            swept(tmp_path / "out", crew, axes={"site.pue": [1.2]}, set=replaced, replications=1)
            counts.append(len(crew.done))
        assert counts == [1, 1, 0]

    @pytest.mark.parametrize(
        "spoil",
        [
            Path.unlink,
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            lambda path: path.write_bytes(bytes(path.stat().st_size)),  # as after a power cut
        ],
    )
    def test_a_broken_file_is_done_again(
        self, tmp_path: Path, spoil: Callable[[Path], None]
    ) -> None:
        found = swept(tmp_path)
        before = index(tmp_path)
        key = found.runs["run"][2]
        spoil(tmp_path / "runs" / key[:2] / f"{key}.parquet")
        crew = Counting()
        swept(tmp_path, crew)
        assert crew.done == [key]
        assert index(tmp_path) == before

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(InputError, match=r"--out: .* holds something that is no sweep"):
            swept(tmp_path)


class TestFailures:
    def test_a_poisoned_point_is_listed_and_the_others_are_run(self, tmp_path: Path) -> None:
        found = swept(tmp_path, axes={REPLICAS: [1, 9, 2]}, replications=1)
        assert found.runs["status"].tolist() == ["done", "failed", "done"]
        cause = found.runs["cause"][1]
        assert "replicas" in cause and "9" in cause
        assert found.runs["ttft_ms.p99"].isna().tolist() == [False, True, False]
        assert found.failures == {cause: 1}
        assert found.points["failed"].tolist() == [0, 1, 0]

    def test_fields_that_do_not_go_together_are_a_poisoned_point(self, tmp_path: Path) -> None:
        axes = {"warmup": ["1 s", "7 s"], "duration": ["5 s", "9 s"]}
        found = swept(tmp_path, axes=axes, replications=1)
        assert found.runs["status"].tolist() == ["done", "done", "failed", "done"]
        assert found.runs["cause"][2] == "warmup: must be shorter than duration (5 s), not 7 s"

    def test_an_error_of_the_code_fails_that_run_alone(
        self, tmp_path: Path, monkeypatch: Any
    ) -> None:
        def simulate(scenario: Any, **options: Any) -> Any:
            if scenario.seed == 4:
                raise ZeroDivisionError("division by zero")
            return fs.simulate(scenario, **options)

        whole = swept(tmp_path / "whole").runs
        monkeypatch.setattr(runs_task, "simulate", simulate)
        found = swept(tmp_path / "part").runs
        assert found["cause"].tolist() == ["", "ZeroDivisionError: division by zero"] * 2
        monkeypatch.undo()
        pd.testing.assert_frame_equal(swept(tmp_path / "part").runs, whole)

    def test_a_full_disk_fails_the_runs_that_cannot_be_kept(
        self, tmp_path: Path, monkeypatch: Any
    ) -> None:
        whole = swept(tmp_path / "whole").runs
        places = iter([True, False, True, True, False])

        def full(path: Path, content: bytes, **_: bool) -> None:
            if not next(places):
                raise OSError(errno.ENOSPC, "No space left on device")
            atomic.write(path, content)

        monkeypatch.setattr("factory_sim.experiments.runs.store.write", full)
        monkeypatch.setattr("factory_sim.experiments.sweep.run.write", full)
        found = swept(tmp_path / "part")
        cause = "could not be kept: No space left on device"
        assert found.runs["cause"].tolist() == ["", cause, "", ""]
        assert found.unsaved.endswith("index.parquet could not be written: No space left on device")
        monkeypatch.undo()
        crew = Counting()
        pd.testing.assert_frame_equal(swept(tmp_path / "part", crew).runs, whole)
        assert len(crew.done) == 1

    @pytest.mark.slow
    def test_a_run_that_kills_its_worker_fails_alone(self, tmp_path: Path) -> None:
        with Pool(2, dying_always) as pool:
            found = swept(tmp_path, pool).runs
        assert found["cause"].tolist() == ["", "", DIED, DIED]

    def test_a_worker_killed_once_costs_nothing(self, tmp_path: Path) -> None:
        swept(tmp_path / "whole")
        with Pool(2, partial(dying_once, tmp_path / "flag")) as pool:
            swept(tmp_path / "part", pool)
        assert (tmp_path / "flag").exists()
        assert index(tmp_path / "part") == index(tmp_path / "whole")


class TestCrews:
    def test_every_crew_makes_the_same_table(self, tmp_path: Path) -> None:
        fields = {"axes": {RATE: ["5 /s", "20 /s"], REPLICAS: [1, 9]}}
        with Pool(1) as one, Pool(2) as two:
            all_crews = {"alone": Alone(), "one": one, "two": two, "backwards": Counting()}
            for name, crew in all_crews.items():
                swept(tmp_path / name, crew, **fields)
        assert len({index(tmp_path / name) for name in all_crews}) == 1
        kept = [
            {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")}
            for name in all_crews
        ]
        assert all(each == kept[0] for each in kept)

    def test_a_cluster_makes_the_same_table(self, tmp_path: Path, client: Any) -> None:
        swept(tmp_path / "alone")
        swept(tmp_path / "cluster", Cluster(client))
        assert index(tmp_path / "cluster") == index(tmp_path / "alone")

    def test_a_worker_of_another_release_is_refused(self) -> None:
        done = execute(Task("{}", "", "0.0.1+abc"))
        assert "asks for factory_sim 0.0.1+abc" in done.cause  # type: ignore[union-attr]

    def test_nobody_at_the_address_is_said(self, monkeypatch: Any) -> None:
        pytest.importorskip("distributed")
        monkeypatch.setattr(crews, "PATIENCE_S", 0.2)
        with pytest.raises(InputError, match="--dask: no scheduler answers at tcp:"):
            fs.sweep(small_sweep(), dask="tcp://127.0.0.1:1")

    def test_a_scheduler_that_is_gone_has_no_workers(self, monkeypatch: Any) -> None:
        class Gone:
            def nthreads(self) -> dict[str, int]:
                raise OSError("Timed out trying to connect")

        assert crews.workers_of(Gone()) == []
        monkeypatch.setattr(Gone, "nthreads", lambda self: {"tcp://b": 1, "tcp://a": 1})
        assert crews.workers_of(Gone()) == ["tcp://a", "tcp://b"]

    def test_a_cluster_that_lost_its_workers_is_said(
        self, client: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        client.cluster.scale(0)
        while client.nthreads():
            time.sleep(0.01)
        seen = iter([{"a worker": 1}])
        monkeypatch.setattr(client, "nthreads", lambda: next(seen, {}))
        monkeypatch.setattr(crews, "DESERTED_S", 0.5)
        with pytest.raises(InputError, match="--dask: the cluster lost its last worker and had"):
            swept(tmp_path, Cluster(client))


@pytest.fixture
def client() -> Iterator[Any]:
    """Lend a client of a cluster inside this process, which starts at once."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


STOP = {"metric": "ttft_ms.mean", "half_width": "12 %", "least": 2, "batch": 2}


class TestStop:
    def test_replications_end_when_the_interval_is_narrow(self, tmp_path: Path) -> None:
        metrics = ["ttft_ms.p99", "ttft_ms.mean"]
        whole = swept(tmp_path / "whole", replications=6, metrics=metrics).runs
        found = swept(tmp_path / "part", replications=6, metrics=metrics[:1], stop=STOP).runs
        counts = found.groupby("point").size().tolist()
        assert counts == [expected(own["ttft_ms.mean"]) for _, own in whole.groupby("point")]
        assert min(counts) < 6
        merged = whole.merge(found[["point", "replication"]])
        pd.testing.assert_frame_equal(found, merged)

    def test_it_is_decided_alike_in_any_order(self, tmp_path: Path) -> None:
        fields = {"replications": 6, "stop": STOP}
        swept(tmp_path / "forth", **fields)
        swept(tmp_path / "back", Counting(), **fields)
        with Pool(2) as pool:
            swept(tmp_path / "pool", pool, **fields)
        swept(tmp_path / "more", replications=6)  # all that may be asked for are there
        swept(tmp_path / "more", **fields)
        assert len({index(tmp_path / name) for name in ("forth", "back", "pool", "more")}) == 1

    def test_progress_counts_up_to_what_may_still_come(self, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        described = read_sweep(small_sweep(replications=6, stop=STOP))
        found = run_sweep(described, Alone(), tmp_path, lambda *done: told.append(done))
        assert [done for done, _ in told] == list(range(1, len(found.runs) + 1))
        assert told[0] == (1, 12)
        mosts = [most for _, most in told]
        assert mosts == sorted(mosts, reverse=True)
        assert mosts[-1] >= len(found.runs)

    def test_a_figure_that_is_none_is_said_after_the_first_batch(self, tmp_path: Path) -> None:
        crew = Counting()
        with pytest.raises(InputError, match=r"stop\.metric: no run has a figure 'ttft_ms\.p98'; "):
            swept(tmp_path, crew, replications=6, stop=STOP | {"metric": "ttft_ms.p98"})
        assert len(crew.done) == 4

    def test_a_point_without_the_figure_has_all_its_replications(self, tmp_path: Path) -> None:
        found = swept(tmp_path, axes={REPLICAS: [1, 9]}, replications=4, stop=STOP)
        assert found.points["failed"].tolist() == [0, 4]


def expected(values: pd.Series[float]) -> int:
    """Return after how many values, of 2, 4 and 6, the interval is narrow."""
    student = {2: 12.706204736432095, 4: 3.182446305284263, 6: 2.570581835636314}
    for count, t in student.items():
        own = values.iloc[:count]
        if t * own.std() / count**0.5 <= 0.12 * own.mean():
            return count
    return 6


def command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "import sys; from factory_sim.cli import main; sys.exit(main())",
        "sweep",
        *arguments,
        "--no-plots",
    ]


def killed_at(files: int, sweep: Path, out: Path) -> set[int]:
    """Kill a sweep once so many runs are kept; return the processes that it had begun."""
    process = subprocess.Popen(
        command(str(sweep), "--workers", "2", "--out", str(out)), stdout=subprocess.DEVNULL
    )
    while len(list(out.glob("runs/*/*.parquet"))) < files and process.poll() is None:
        time.sleep(0.002)
    time.sleep(random.random() * 0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = {int(child) for child in children.read_text().split()} if children.exists() else set()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return workers


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_makes_the_same_table(tmp_path: Path) -> None:
    fields = small_sweep(axes={RATE: [f"{rate} /s" for rate in range(2, 62)]}, replications=3)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(fields), encoding="utf-8")
    subprocess.run(command(str(sweep), "--out", str(tmp_path / "whole")), check=True)
    orphans: set[int] = set()
    for files in sorted(random.sample(range(1, 170), 4)):
        orphans |= killed_at(files, sweep, tmp_path / "part")
    kept = len(list((tmp_path / "part").glob("runs/*/*.parquet")))
    print(f"\nkilled four times, the last with {kept} of 180 runs kept")
    assert not (tmp_path / "part" / "index.parquet").exists()
    subprocess.run(command(str(sweep), "--out", str(tmp_path / "part")), check=True)
    assert index(tmp_path / "part") == index(tmp_path / "whole")
    deadline = time.monotonic() + 10.0
    while any(os.path.exists(f"/proc/{worker}") for worker in orphans):
        assert time.monotonic() < deadline, "workers outlive who started them"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_cluster_of_processes_makes_the_same_table(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    axes = {RATE: [f"{rate} /s" for rate in range(2, 32)], REPLICAS: [1, 9]}
    swept(tmp_path / "alone", axes=axes)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        fs.sweep(small_sweep(axes=axes), tmp_path / "cluster", dask=cluster.scheduler_address)
    assert index(tmp_path / "cluster") == index(tmp_path / "alone")


@pytest.mark.slow
def test_a_run_that_kills_its_worker_fails_alone_on_a_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        # Workers are killed again before the cluster looks whether they have come back.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        Pool(2, dying_always) as pool,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        swept(tmp_path / "pool", pool)
        swept(tmp_path / "cluster", Cluster(client, dying_always))
    assert index(tmp_path / "cluster") == index(tmp_path / "pool")


@pytest.mark.alone
@pytest.mark.slow
def test_two_workers_do_a_thousand_runs_in_little_more_than_half_the_time(tmp_path: Path) -> None:
    # A hundred at a time, one worker and two in turn: others take their share of the cores too.
    axes = {RATE: {"from": "20 /s", "to": "60 /s", "steps": 100}}
    times: list[list[float]] = []
    with Pool(1) as one, Pool(2) as two:
        for turn in range(11):  # in the first, workers read the catalogue
            times.append([])
            for workers, pool in ((1, one), (2, two)):
                fields = {"scenario": SMALL | {"seed": turn}, "axes": axes, "replications": 1}
                started = time.perf_counter()
                swept(tmp_path / f"{turn}-{workers}", pool, **fields)
                times[-1] += [time.perf_counter() - started, bare_seconds(workers)]
            assert index(tmp_path / f"{turn}-1") == index(tmp_path / f"{turn}-2")
    medians = (sorted(taken)[5] for taken in zip(*times[1:], strict=True))
    alone, bare_alone, both, bare_both = medians
    ratio, most = alone / both, bare_alone / bare_both
    print(f"\n100 runs, median of ten: {alone:.2f} s by one worker, {both:.2f} s by two")
    print(f"{ratio:.2f} times as fast; processes that only count, here and now: {most:.2f}")
    assert ratio > 0.8 * min(most, 2.0)
