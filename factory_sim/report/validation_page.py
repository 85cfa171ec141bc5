"""The page on validation: what was compared, how far off the simulator is, and where it is weak.

Made by `factory-sim validate --data DATA --page docs/validation.md`; people write
`validation_notes.md` beside it, which becomes part of the page.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from factory_sim.catalog import Catalog
from factory_sim.report.comparison import lines, size
from factory_sim.report.file import write_file
from factory_sim.report.plots import agreement, style
from factory_sim.report.text import percent
from factory_sim.validation.compare import Row, by_gpu, by_metric, reason_of, rows_of, spread_of
from factory_sim.validation.floor import FEWEST, floor_of
from factory_sim.validation.runner import Outcome
from factory_sim.validation.targets import (
    MODELS_TO_LEAVE_OUT,
    Errors,
    Standing,
    left_out_errors,
    standings,
)


class About(NamedTuple):
    """A source as the page names it."""

    title: str
    address: str
    what: str
    licence: str


ABOUT = {
    "openloop": About(
        "inference-sim/training",
        "https://github.com/inference-sim/training",
        "vLLM 0.15.1, open loop at constant rate, prefix caching; latency percentiles",
        "none stated; figures only",
    ),
    "mlenergy": About(
        "ML.ENERGY v3",
        "https://github.com/ml-energy/leaderboard",
        "vLLM 0.11.1, full batches of chats and exam questions; rates, watts and joules",
        "Apache-2.0 data card",
    ),
    "inferencex": About(
        "InferenceX",
        "https://github.com/ai-dynamo/aiconfigurator",
        "vLLM, TensorRT-LLM and SGLang, closed loop of random tokens; TTFT and TPOT",
        "Apache-2.0",
    ),
    "splitwise": About(
        "splitwise-sim",
        "https://github.com/Mutinifni/splitwise-sim",
        "vLLM of 2023, static batches; prefill and decode step",
        "MIT",
    ),
    "llmservingsim": About(
        "LLMServingSim 2.0",
        "https://github.com/casys-kaist/LLMServingSim",
        "vLLM 0.19, a recording of 300 ShareGPT requests replayed",
        "MIT",
    ),
    "mlperf": About(
        "MLPerf Inference v4.1, v5.1",
        "https://mlcommons.org/benchmarks/inference-datacenter/",
        "TensorRT-LLM, offline and server, with the wall power of servers; as published, "
        "our comparison is not verified by MLCommons",
        "MLCommons result terms",
    ),
    "wide": About(
        "InferenceX, wide",
        "https://github.com/ai-dynamo/aiconfigurator",
        "mixtures of experts with data-parallel attention, or with prompts computed apart; none of "
        "these is fitted to",
        "Apache-2.0",
    ),
}
COMMAND = "factory-sim validate --data ../shared/data --page docs/validation.md"


def write_page(
    page: Path,
    sources: Mapping[str, Sequence[Outcome]],
    built_in: Sequence[Outcome],
    notes: str,
    facts: Catalog,
) -> list[Path]:
    """Write the page and, beside it, a plot for each source; return what was written.

    sources: outcomes by a name of ABOUT. built_in: those of the built-in cases.
    Raises InputError when a file cannot be written.
    """
    written = []
    for name, outcomes in sources.items():
        path = page.with_name(_plot(page, name))
        written.append(write_file(path, _png(ABOUT[name].title, rows_of(outcomes)), "--page"))
    left_out = left_out_errors()
    standing = standings({n: list(o) for n, o in sources.items()}, facts, left_out)
    near = list(_near(sources, standing, left_out, facts))
    text = "\n".join(_page(page, sources, built_in, notes, standing, near, left_out))
    return [write_file(page, text, "--page"), *written]


def _plot(page: Path, name: str) -> str:
    return f"{page.stem}_{name}.png"


def _png(title: str, rows: Sequence[Row]) -> bytes:
    picture = io.BytesIO()
    with style.applied():
        # Without this matplotlib signs the file with its version.
        agreement.draw(title, rows).savefig(
            picture, format="png", dpi=100, metadata={"Software": None}
        )
    return picture.getvalue()


def _page(
    page: Path,
    sources: Mapping[str, Sequence[Outcome]],
    built_in: Sequence[Outcome],
    notes: str,
    standing: Sequence[Standing],
    near: Sequence[str],
    left_out: Errors,
) -> Iterator[str]:
    yield "# Validation"
    yield ""
    yield "Measurements of others, repeated by the simulator through its real engine. Errors are"
    yield "simulated over measured, less one; tables give their size, median and 90th percentile."
    yield "Made by a command, from a folder of the public tables; only the last section is written"
    yield f"by hand, in [{page.stem}_notes.md]({page.stem}_notes.md):"
    yield ""
    yield f"```sh\n{COMMAND}\n```"
    yield ""
    yield "## What was compared\n"
    yield from _compared(sources)
    yield "## Against what was asked\n"
    yield "Limits on the median error, set before the fit. *Fitted*: under the calibration that"
    yield "ships, which saw most of these rows. *Left out*: each model's rows under a fit to the"
    yield "other models alone, reached by one Gauss-Newton step from the whole fit; where a limit"
    yield f"holds {MODELS_TO_LEAVE_OUT} models or more, that one counts.\n"
    if not left_out:
        yield "Not computed for this calibration: nothing below is held against left-out models.\n"
    yield from _asked(standing)
    yield from near
    yield "## Errors by source, GPU and metric\n"
    yield "*Left out*: as above. *Too low*: the share of figures that are simulated too low.\n"
    yield from _errors(sources, left_out)
    yield "## Measured against simulated\n"
    for name, outcomes in sources.items():
        title = ABOUT[name].title
        count = len(rows_of(outcomes))
        yield f"![{title}: {count:,} figures, simulated over measured]({_plot(page, name)})\n"
    yield "## The built-in cases\n"
    yield "What `factory-sim validate` prints. The cases are rows of the sources above, chosen by"
    yield "the rules that head the files of `factory_sim/validation/cases`.\n"
    yield "```text"
    yield from lines(built_in)
    yield "```\n"
    yield notes.rstrip() + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: int) -> Iterator[str]:
    """Yield a Markdown table whose columns from `right` on are numbers."""
    yield "| " + " | ".join(heads) + " |"
    yield "| " + " | ".join("---" if n < right else "---:" for n in range(len(heads))) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _compared(sources: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    rows = []
    for name, outcomes in sources.items():
        about = ABOUT[name]
        gpus = ", ".join(sorted({o.case.gpu for o in outcomes}))
        models = len({o.case.model for o in outcomes})
        run = sum(bool(o.simulated) for o in outcomes)
        link = f"[{about.title}]({about.address})"
        counts = (f"{models}", f"{len(outcomes):,}", f"{run:,}", f"{len(rows_of(outcomes)):,}")
        rows.append([link, about.what, gpus, about.licence, *counts])
    heads = ("source", "what", "GPUs", "licence", "models", "cases", "run", "figures")
    yield from _table(heads, rows, right=4)
    reasons = Counter(
        (name, _kind(outcome))
        for name, outcomes in sources.items()
        for outcome in outcomes
        if reason_of(outcome)
    )
    if reasons:
        yield "Not run:\n"
        for (name, reason), count in reasons.items():
            yield f"- {ABOUT[name].title}, {count:,}: {reason}"
        yield ""


def _kind(outcome: Outcome) -> str:
    """Return a reason without the figures of the case, so that like ones are counted as one."""
    reason = reason_of(outcome)
    said = reason.partition(": ")[2].partition(": ")[0]
    return f"{outcome.case.model} on {outcome.case.gpu}: {said or reason}"


def _asked(standing: Sequence[Standing]) -> Iterator[str]:
    rows = []
    for stand in standing:
        limit = stand.limit
        chosen = ", ".join(part for part in (limit.rows, stand.group) if part and part != "all")
        rows.append(
            [
                ABOUT[limit.source].title,
                chosen or "all",
                f"`{stand.metric}`",
                f"{stand.models}",
                f"{stand.fitted.rows:,}",
                percent(limit.limit),
                size(stand.fitted.median),
                "-" if stand.left_out is None else size(stand.left_out.median),
                _reached(stand),
            ]
        )
    heads = ("source", "rows", "metric", "models", "figures", "limit", "fitted", "left out")
    yield from _table((*heads, "reached"), rows, right=3)


_BY_NUMBER: Mapping[str, Callable[[int], bool]] = {
    "": lambda gpus: True,
    "one": lambda gpus: gpus == 1,
    "several": lambda gpus: gpus > 1,
}
"""Rows of one GPU stand apart: several runs may have shared a host."""


def _near(
    sources: Mapping[str, Sequence[Outcome]],
    standing: Sequence[Standing],
    left_out: Errors,
    facts: Catalog,
) -> Iterator[str]:
    """Yield the section on what a curve for each series would leave, where rows make series."""
    rows = []
    for stand in standing:
        own = [o for o in sources[stand.limit.source] if o.case.gpu == stand.group]
        apart = left_out if stand.left_out else {o.case.id: o.errors for o in own}
        for many, chosen in _BY_NUMBER.items():
            part = [o for o in own if o.simulated and chosen(o.case.gpus)]
            floor = floor_of(part, stand.metric, facts)
            told = [apart.get(o.case.id, {}).get(stand.metric) for o in part]
            errors = [error for error in told if error is not None]
            if floor is None or not errors:
                continue
            rows.append(
                [
                    ABOUT[stand.limit.source].title,
                    f"{many} {stand.group}".strip(),
                    f"`{stand.metric}`",
                    f"{floor.series}",
                    percent(stand.limit.limit),
                    *map(size, (spread_of(errors).median, *floor.level, *floor.curve)),
                    "-" if floor.alike is None else f"{size(floor.alike)} of {floor.pairs}",
                ]
            )
    if not rows:
        return
    yield "## How near any smooth model could come\n"
    yield "A series is one model, precision, degree and kind of prompt on one GPU, at"
    yield f"{FEWEST} batch sizes or more. *A factor each*: the median error once every series has a"
    yield "factor of its own; *a curve each*: a parabola of its own in the logarithm of the batch,"
    yield "first chosen with all of its rows, then, for each row, *without it*. Both are more than"
    yield "is allowed, as no parameter may be of a model; one that knew the true curve of every"
    yield "series would come out between the last two. *Alike*: the difference of two rows that"
    yield "differ in the name of their model alone, or in nothing.\n"
    heads = ("source", "rows", "metric", "series", "limit", "comes out", "a factor each")
    others = ("without it", "a curve each", "without it", "alike, pairs")
    yield from _table((*heads, *others), rows, right=3)


def _reached(stand: Standing) -> str:
    counted = stand.left_out or stand.fitted
    if counted.median > stand.limit.limit:
        return "no"
    return "in sample" if stand.counts_left_out and stand.left_out is None else "yes"


def _errors(sources: Mapping[str, Sequence[Outcome]], left_out: Errors) -> Iterator[str]:
    rows = []
    for name, outcomes in sources.items():
        for gpu, own in by_gpu(rows_of(outcomes)).items():
            for metric, spread in by_metric(own).items():
                same = [row for row in own if row.metric == metric]
                apart = [left_out.get(row.case, {}).get(metric) for row in same]
                unseen = [error for error in apart if error is not None]
                rows.append(
                    [
                        ABOUT[name].title,
                        gpu,
                        f"`{metric}`",
                        f"{spread.rows:,}",
                        size(spread.median),
                        size(spread.p90),
                        size(spread_of(unseen).median) if unseen else "-",
                        percent(sum(row.error < 0.0 for row in same) / spread.rows),
                    ]
                )
    heads = ("source", "GPU", "metric", "figures", "median", "p90", "left out, median", "too low")
    yield from _table(heads, rows, right=3)
