"""The command as its own process: exit codes, pipes, signals, what a newcomer sees."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from factory_sim import __version__

COMMANDS = (
    "run",
    "check",
    "sweep",
    "compare",
    "catalog",
    "schema",
    "validate",
    "calibrate",
    "probe",
)


def process(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command to its end in an 80-column pipe; `before` is Python to run first."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\nfrom factory_sim.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_the_version():
    ended = process("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"factory-sim {__version__}\n", "")


def test_help_names_the_commands_and_where_to_start():
    out = process("--help").stdout
    assert "Start with `factory-sim run`" in out
    assert [word for word in COMMANDS if f"\n  {word} " in out] == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    ended = process(command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Usage: factory-sim {command} [OPTIONS]")
    assert max(map(len, ended.stdout.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["runn"], ["run", "--speed"], ["catalog", "a", "b", "c"]])
def test_a_usage_error_is_exit_code_2_and_no_traceback(arguments):
    ended = process(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert "factory-sim" in ended.stderr


def test_bad_input_is_exit_code_2_and_one_line():
    ended = process("catalog", "models", "nothing-of-the-kind")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_an_interrupt_is_exit_code_130_and_one_line():
    script = """
import os, signal, factory_sim
from types import SimpleNamespace
factory_sim.load = lambda *_, **__: SimpleNamespace(name="x", kernel="simpy")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
factory_sim.simulate = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
"""
    ended = process("run", before=script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_an_unexpected_error_is_not_hidden():
    script = """
import factory_sim
def load(*_, **__): raise RuntimeError("a bug")
factory_sim.load = factory_sim.simulate = load
"""
    ended = process("run", before=script)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: a bug\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE to speak of")
@pytest.mark.parametrize("arguments", [["catalog"], ["catalog", "models"], ["schema"]])
def test_a_reader_who_leaves_early_is_no_error(arguments):
    script = """
import factory_sim.scenario as scenario
scenario.json_schema = lambda: {"x": "y" * 100_000}
from factory_sim.cli import main; main()
"""
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does, only sooner
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, b"")
