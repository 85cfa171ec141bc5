"""The commands of `factory-sim`, one file each, and what they share: `--version`, exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

from factory_sim import __version__
from factory_sim.cli import (
    calibrate,
    catalog,
    check,
    claims,
    clocks,
    compare,
    plan,
    probe,
    report,
    run,
    schema,
    sensitivity,
    size,
    sweep,
    trace,
    ui,
    validate,
    year,
)
from factory_sim.cli.plain_speech import PlainSpeech


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"factory-sim {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=PlainSpeech,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def factory_sim(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which release."),
    ] = False,
) -> None:
    """Simulate an AI factory: a site that turns megawatts into tokens.

    Start with `factory-sim run`: it simulates a small built-in site and says how many tokens
    per second fit under its power cap, at what latency, and what limits them.
    """


app.command()(run.run)
app.command()(report.report)
app.command()(trace.trace)
app.command()(trace.film)
app.command()(check.check)
app.command()(size.size)
app.command()(sensitivity.sensitivity)
app.command()(plan.plan)
app.command()(sweep.sweep)
app.command()(year.year)
app.command()(compare.compare)
app.command()(ui.ui)
app.command()(clocks.clocks)
app.command()(claims.claims)
app.command()(catalog.catalog)
app.command()(schema.schema)
app.command()(validate.validate)
app.command()(calibrate.calibrate)
app.command()(probe.probe)
