"""One run on a cluster: the bytes of a run on one machine, and workers that are lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.experiments.apart import dealt
from factory_sim.factory.run import Progress
from factory_sim.report import folder
from tests.factory.test_shards import assert_same, podded


def test_workers_get_pods_side_by_side() -> None:
    assert dealt({"a": 5, "b": 2}, 3) == [
        {"a": range(2), "b": range(1)},
        {"a": range(2, 3), "b": range(1, 2)},
        {"a": range(3, 5)},
    ]
    assert dealt({"a": 2}, 9) == [{"a": range(1)}, {"a": range(1, 2)}]


def test_a_cluster_has_workers_of_its_own() -> None:
    with pytest.raises(InputError, match="--workers: a cluster has workers of its own"):
        fs.simulate(podded(), workers=2, dask="tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_cluster_writes_the_bytes_of_one_machine_and_outlives_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    distributed = pytest.importorskip("distributed")
    scenario = podded(recording="full", duration="60 s", warmup="5 s")
    here = fs.simulate(scenario, workers=1)
    killed = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as many,
        distributed.Client(many) as client,
    ):
        far = fs.simulate(scenario, dask=many.scheduler_address)
        pids: list[Any] = list(client.run(os.getpid).values())

        def kill(progress: Progress) -> None:
            if progress.now_s > 30.0 and not killed:
                killed.append(progress.now_s)
                os.kill(pids[0], signal.SIGKILL)

        again = fs.simulate(scenario, kill, dask=client)
        with pytest.raises(InputError, match="--dask: nothing in this run is independent"):
            fs.simulate(fs.load(), dask=client)
    assert killed
    for number, run in enumerate((far, again)):
        assert_same(here, run)
        for name, each in (("here", here), ("far", run)):
            folder.save(each, tmp_path / f"{name}-{number}", plots=False)
        for table in ("summary.json", "requests.parquet", "timeseries.parquet"):
            kept = [tmp_path / f"{name}-{number}" / table for name in ("here", "far")]
            assert kept[0].read_bytes() == kept[1].read_bytes()
