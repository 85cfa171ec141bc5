"""A run folder appears whole or not at all, says the same in the same bytes, and reads back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from factory_sim import atomic
from factory_sim.errors import InputError, Problem
from factory_sim.report import folder
from tests.report import synthetic

TABLES = [
    "assumptions.json",
    "requests.parquet",
    "run.json",
    "scenario.yaml",
    "summary.json",
    "timeseries.parquet",
]


class Killed(BaseException):
    """Stands for the end of the process: nothing in the code under test may catch it."""


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def problem_of(error: pytest.ExceptionInfo[InputError]) -> Problem:
    (problem,) = error.value.problems
    return problem


def test_a_saved_run_reads_back_the_same(run, tmp_path):
    saved = folder.read(folder.save(run, tmp_path / "run", plots=False))
    pd.testing.assert_frame_equal(saved.requests, run.requests)
    pd.testing.assert_frame_equal(saved.timeseries, run.timeseries)
    assert saved.summary == run.summary
    assert saved.record == run.record
    assert saved.scenario == {
        "name": "synthetic",
        "seed": 1,
        "duration": "600.0 s",
        "warmup": "60.0 s",
    }
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == TABLES


def test_the_same_run_is_the_same_bytes(tmp_path):
    for out in ("a", "b"):
        folder.save(synthetic.run(500), tmp_path / out, plots=False)
    for name in TABLES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_missing_parents_are_made(run, tmp_path):
    out = folder.save(run, tmp_path / "a" / "b" / "run", plots=False)
    assert names(out) == TABLES


def test_an_empty_folder_may_be_used(run, tmp_path):
    (tmp_path / "run").mkdir()
    assert names(folder.save(run, tmp_path / "run", plots=False)) == TABLES


def test_a_folder_in_use_is_refused(run, tmp_path):
    out = folder.save(run, tmp_path / "run", plots=False)
    with pytest.raises(InputError) as error:
        folder.save(run, out, plots=False)
    assert problem_of(error) == Problem(
        "--out", f"{out} exists already; name another folder, or replace it with --force"
    )


def test_force_replaces_a_run(run, tmp_path):
    out = folder.save(synthetic.run(300), tmp_path / "run")
    folder.save(run, out, force=True, plots=False)
    assert len(folder.read(out).requests) == 4000
    assert names(out) == TABLES, "the plots of the older run are gone with it"
    assert names(tmp_path) == ["run"]


def test_force_leaves_alone_what_is_no_run(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError) as error:
        folder.save(run, tmp_path, force=True)
    assert problem_of(error) == Problem(
        "--out", f"{tmp_path} holds no run.json, so it is no run and --force leaves it alone"
    )
    assert names(tmp_path) == ["thesis.txt"]


def test_a_file_is_no_folder(run, tmp_path):
    out = tmp_path / "file"
    out.write_text("")
    with pytest.raises(InputError) as error:
        folder.save(run, out, force=True)
    assert problem_of(error) == Problem("--out", f"{out} exists and is not a folder; name another")


def test_below_a_file_nothing_can_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        folder.check_target(tmp_path / "file" / "run")
    assert problem_of(error).path == "--out"
    assert f"cannot write in {tmp_path / 'file'}" in problem_of(error).message


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_an_unwritable_place_is_refused_before_the_run(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot write in"):
            folder.check_target(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_names_out_and_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(InputError) as error:
        folder.save(run, tmp_path / "run")
    assert problem_of(error) == Problem(
        "--out", f"{tmp_path / 'run'} cannot be written: No space left on device"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("table", ["requests", "timeseries"])
def test_a_run_killed_while_writing_leaves_the_older_one(run, tmp_path, monkeypatch, table):
    out = folder.save(synthetic.run(300), tmp_path / "run", plots=False)
    write = folder._write_table

    def killed(path: Path, frame: pd.DataFrame) -> None:
        if path.stem == table:
            raise Killed
        write(path, frame)

    monkeypatch.setattr(folder, "_write_table", killed)
    with pytest.raises(Killed):
        folder.save(run, out, force=True)
    assert len(folder.read(out).requests) == 300
    assert names(tmp_path) == ["run"]


def test_a_failed_swap_puts_the_older_run_back(run, tmp_path, monkeypatch):
    out = folder.save(synthetic.run(300), tmp_path / "run", plots=False)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        folder.save(run, out, force=True)
    assert len(folder.read(out).requests) == 300
    assert names(tmp_path) == ["run"]


def test_a_machine_lost_between_the_two_renames_loses_no_run(run, tmp_path):
    out = folder.save(synthetic.run(300), tmp_path / "run", plots=False)
    out.rename(tmp_path / ".run.previous")  # as the machine left it
    with pytest.raises(InputError, match="exists already"):
        folder.save(run, out, plots=False)
    assert len(folder.read(out).requests) == 300
    assert names(tmp_path) == ["run"]


def test_every_file_is_on_disk_before_the_rename(run, tmp_path, monkeypatch):
    log: list[str] = []
    sync, rename = atomic.sync, Path.rename
    monkeypatch.setattr(folder, "sync", lambda path: (log.append(path.name), sync(path)))
    monkeypatch.setattr(
        atomic, "sync", lambda path: (log.append(path.name.split(".partial")[0]), sync(path))
    )
    monkeypatch.setattr(
        Path, "rename", lambda self, target: (log.append("rename"), rename(self, target))
    )
    folder.save(run, tmp_path / "run", plots=False)
    assert sorted(log[:6]) == TABLES
    assert log[6:] == [".run", "rename", tmp_path.name]


def test_names_are_counted_up_when_taken(run, tmp_path):
    base = tmp_path / "quickstart"
    saved = [folder.save_next(run, base, plots=False).name for _ in range(3)]
    assert saved == ["quickstart", "quickstart-2", "quickstart-3"]


def test_save_next_does_not_try_forever_where_it_cannot_write(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write in"):
        folder.save_next(run, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("quickstart", "runs/quickstart"),
        ("Two sites / what if?", "runs/Two-sites-what-if"),
        ("../../etc", "runs/etc"),
        ("...", "runs/run"),
    ],
)
def test_a_name_becomes_one_folder(name, base):
    assert folder.default_base(name).as_posix() == base


def test_a_figure_that_is_not_there_must_be_absent():
    with pytest.raises(ValueError, match=r"^ttft_ms\.p99 is nan: a figure that a run does not"):
        folder.to_json({"ttft_ms": {"mean": 1.0, "p99": float("nan")}})
    with pytest.raises(ValueError, match=r"^levels\.1 is None"):
        folder.to_json({"levels": [1.0, None]})


def test_numpy_numbers_become_plain_ones(run):
    series = run.requests.prompt_tokens
    content = {"count": series.max(), "mean": series.mean(), "met": series.max() > 1}
    assert json.loads(folder.to_json(content)) == {
        "count": int(series.max()),
        "mean": float(series.mean()),
        "met": True,
    }


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError) as error:
        folder.read(tmp_path)
    assert problem_of(error) == Problem(
        str(tmp_path / "run.json"), "is missing; name the folder of a run"
    )


def test_a_missing_table_is_named(run, tmp_path):
    out = folder.save(run, tmp_path / "run", plots=False)
    (out / "requests.parquet").unlink()
    with pytest.raises(InputError, match=r"requests\.parquet: is missing"):
        folder.read(out)


@pytest.mark.parametrize(
    ("name", "content"),
    [("requests.parquet", "no table"), ("summary.json", "{"), ("scenario.yaml", "a: [")],
)
def test_a_damaged_file_is_named(run, tmp_path, name, content):
    out = folder.save(run, tmp_path / "run", plots=False)
    (out / name).write_text(content)
    with pytest.raises(InputError) as error:
        folder.read(out)
    assert problem_of(error).path == str(out / name)
    assert problem_of(error).message.startswith("cannot be read: ")


def test_another_schema_version_is_refused(run, tmp_path):
    out = folder.save(run, tmp_path / "run", plots=False)
    (out / "run.json").write_text(json.dumps({**run.record, "schema_version": 99}))
    with pytest.raises(InputError) as error:
        folder.read(out)
    assert problem_of(error).message == (
        "has schema version 99, this release reads 2; run the scenario again"
    )


def test_the_scenario_is_yaml_in_its_own_order(run, tmp_path):
    text = (folder.save(run, tmp_path / "run", plots=False) / "scenario.yaml").read_text()
    assert list(yaml.safe_load(text)) == ["name", "seed", "duration", "warmup"]


def test_a_moved_run_still_reads(run, tmp_path):
    out = folder.save(run, tmp_path / "run", plots=False)
    shutil.move(out, tmp_path / "elsewhere")
    assert folder.read(tmp_path / "elsewhere").summary == run.summary
