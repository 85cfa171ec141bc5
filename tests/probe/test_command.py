"""`factory-sim probe` from the command line to a catalogue folder, on the processor."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from factory_sim.catalog import load_catalog
from factory_sim.cli.app import app
from factory_sim.probe import torch_device
from tests.probe.made_up import MadeUp
from tests.probe.test_torch_device import TINY


def probe(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["probe", *arguments])


@pytest.fixture
def made_up(monkeypatch) -> MadeUp:
    device = MadeUp(count=8)
    monkeypatch.setattr("factory_sim.probe.open.open_device", lambda _: device)
    return device


def test_on_a_processor_every_step_from_measuring_to_the_catalogue(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch_device, "CPU", TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path / "mine"
    ended = probe("-o", str(out), "--device", "cpu", "--minutes", "0.01", "--name", "my-cpu")
    torch.set_num_threads(threads)
    assert ended.exit_code == 0, ended.output
    found = load_catalog(out).accelerator("my-cpu")
    assert found.vendor == "CPU" and "a processor" in found.title
    assert found.flops["bf16"].kind == found.hbm_bandwidth.kind == "measured"
    assert found.tdp is found.idle is None
    assert load_catalog(out).efficiency("my-cpu", "bf16").kv_memory.value > 0
    assert "not measured           power: a processor's own counters are not read" in ended.stdout
    assert ended.stdout.endswith(f"catalog folder: {out}, accelerator: my-cpu\n")


def test_what_was_found_is_printed(made_up, tmp_path) -> None:
    ended = probe("-o", str(tmp_path / "mine"), "--minutes", "1")
    assert ended.exit_code == 0, ended.output
    assert [" ".join(line.split()) for line in ended.stdout.splitlines()] == [
        "products highest compute memory error",
        "bf16 800 Tflop/s 99.9 % 93 % < 0.1 %",
        "fp8 1.50 Pflop/s 100 % 93 % < 0.1 %",
        "memory 4.30 TB/s at most, 4.30 TB/s in copies",
        "decode attention 91 % of that, error < 0.1 %",
        "prompt attention 75 % of the highest bf16 rate, error < 0.1 %",
        "all-reduce 8 devices: 9.00 µs and 360 GB/s, error < 0.1 %",
        "power idle 76.0 W, copies 530 W, products 690 W, decode",
        "542 W, prompts 679 W at most; limit 700 W; curve fits",
        "20 loads with an error of < 0.1 %",
        "not measured nvfp4: not on this one",
        "clock held down by power limit",
        "",
        f"catalog folder: {tmp_path / 'mine'}, accelerator: nvidia-made-up-1",
    ]


def test_a_folder_that_holds_something_is_left_alone(made_up, tmp_path: Path) -> None:
    (tmp_path / "systems.yaml").write_text("mine: {}\n", encoding="utf-8")
    ended = probe("-o", str(tmp_path))
    assert (ended.exit_code, made_up.asked) == (2, [])
    assert (
        ended.stderr == f"error: {tmp_path}: exists already and is not empty; name a new folder\n"
    )


def test_a_probe_that_breaks_off_leaves_no_folder(made_up, tmp_path, monkeypatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(made_up, "prefill", broken)
    ended = probe("-o", str(tmp_path / "mine"))
    said = "error: --device cuda:0: failed: CUDA out of memory. Tried to allocate 2 GiB\n"
    assert (ended.exit_code, ended.stderr.endswith(said)) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch_one_line_says_how_to_get_it(tmp_path, monkeypatch) -> None:
    bring = builtins.__import__

    def no_torch(name: str, *rest: Any) -> Any:
        if name == "torch" or name.startswith("torch."):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return bring(name, *rest)

    for module in ("torch_device", "collectives", "products", "stopwatch"):
        monkeypatch.delitem(sys.modules, f"factory_sim.probe.{module}", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_torch)
    ended = probe("-o", str(tmp_path / "mine"))
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: the probe needs PyTorch (No module named 'torch')")
    assert ended.stderr.endswith("pip install 'factory_sim[probe]'\n")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "gpu", ""])
def test_a_device_of_another_name_is_refused(tmp_path, device: str) -> None:
    ended = probe("-o", str(tmp_path / "mine"), "--device", device)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "name cuda:0, cuda:1 and so on, or cpu" in ended.stderr


def test_the_help_needs_no_pytorch(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ended = probe("--help")
    assert ended.exit_code == 0
    assert "pip install 'factory_sim[probe]'" in " ".join(ended.stdout.split())
