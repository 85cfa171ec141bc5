"""`factory-sim calibrate`: fit an engine profile to one's own benchmark, or the package's data."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from factory_sim.cli.options import Workers
from factory_sim.errors import InputError, Problem

if TYPE_CHECKING:
    from factory_sim.validation.case import Case

TOOLS = {
    "vllm-bench": "vllm bench serve",
    "guidellm": "GuideLLM",
    "aiperf": "AIPerf",
    "inference-perf": "inference-perf",
}
FACTS = {
    "--model": "model",
    "--precision": "precision",
    "--kv-precision": "kv_precision",
    "--tp": "parallelism.tp",
    "--pp": "parallelism.pp",
    "--ep": "parallelism.ep",
    "--dp": "parallelism.dp",
    "--max-num-seqs": "engine.max_num_seqs",
    "--max-num-batched-tokens": "engine.max_num_batched_tokens",
    "--max-model-len": "engine.max_model_len",
    "--prompt-tokens": "lengths.prompt",
    "--output-tokens": "lengths.output",
    "--cached-tokens": "lengths.cached",
}
"""Options that say what a result file does not, and the field of a case that each is."""


def _result(tool: str) -> Any:
    said = f"Make cases of a result of {TOOLS[tool]}. Repeatable."
    return typer.Option(f"--from-{tool}", metavar="FILE", help=said, show_default=False)


def _fact(said: str, metavar: str = "N", least: float | None = None) -> Any:
    return typer.Option(metavar=metavar, help=said, min=least, show_default=False)


def _text(said: str, metavar: str = "NAME", *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=said, show_default=False)


def calibrate(
    cases: Annotated[
        Path | None,
        typer.Argument(
            metavar="CASES", help="Your measurements, a YAML file of cases.", show_default=False
        ),
    ] = None,
    engine: Annotated[
        str | None, _text("What to call the profile; by default as its file.")
    ] = None,
    out: Annotated[
        Path | None, _text("The file to write, ending in .yaml.", "FILE", "--out", "-o")
    ] = None,
    gpu: Annotated[
        str | None, _text("The GPU it was measured on, such as h100-sxm; of CASES, only its own.")
    ] = None,
    like: Annotated[
        str | None,
        _text("The profile to set out from; by default the one that the cases name, or vllm."),
    ] = None,
    from_vllm_bench: Annotated[list[Path] | None, _result("vllm-bench")] = None,
    from_guidellm: Annotated[list[Path] | None, _result("guidellm")] = None,
    from_aiperf: Annotated[list[Path] | None, _result("aiperf")] = None,
    from_inference_perf: Annotated[list[Path] | None, _result("inference-perf")] = None,
    model: Annotated[str | None, _text("Of a result: the model served.")] = None,
    precision: Annotated[str | None, _text("Of a result: precision of the weights.")] = None,
    kv_precision: Annotated[str | None, _text("Of a result: precision of the cache.")] = None,
    tp: Annotated[int | None, _fact("Of a result: GPUs in tensor parallel.", least=1)] = None,
    pp: Annotated[int | None, _fact("Of a result: pipeline stages.", least=1)] = None,
    ep: Annotated[int | None, _fact("Of a result: GPUs in expert parallel.", least=1)] = None,
    dp: Annotated[int | None, _fact("Of a result: data parallelism.", least=1)] = None,
    max_num_seqs: Annotated[
        int | None, _fact("Of a result: sequences at once, as the engine was started.", least=1)
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, _fact("Of a result: token budget of a step.", least=1)
    ] = None,
    max_model_len: Annotated[
        int | None, _fact("Of a result: longest request, prompt and answer.", least=1)
    ] = None,
    prompt_tokens: Annotated[
        float | None, _fact("Of a result: mean length of prompts.", least=1)
    ] = None,
    output_tokens: Annotated[
        float | None, _fact("Of a result: mean length of answers.", least=1)
    ] = None,
    cached_tokens: Annotated[
        float | None, _fact("Of a result: prompt tokens found in the prefix cache.", least=0)
    ] = None,
    write_cases: Annotated[
        Path | None, _text("Save the cases made of the results to this file.", "FILE")
    ] = None,
    own_catalog: Annotated[Path | None, _text("A folder of your own catalog files.", "DIR")] = None,
    workers: Workers = None,
    catalog: Annotated[
        Path | None,
        _text("Refit the calibration that ships to the public tables in this folder.", "DATA"),
    ] = None,
    left_out: Annotated[
        Path | None,
        _text(
            "With --catalog: where the errors of each model under a fit without it go; by default "
            "left_out.json beside -o.",
            "FILE",
        ),
    ] = None,
    only: Annotated[
        str | None,
        _text(
            "With --catalog: the one fit to repeat, all else as it ships: step-times, vllm-0.2, "
            "mamba-2, vllm or power.",
            "FIT",
        ),
    ] = None,
) -> None:
    """Fit an engine profile to your own benchmark, and say how good it is.

    From a file of cases, or from what benchmark tools write; what those do not say, such as
    the model, is given by options. The file written is named in a scenario as
    engine: {profile: my-engine.yaml}. With --catalog: refit the calibration that ships.
    """
    given = dict(locals())
    results = {tool: given[f"from_{tool.replace('-', '_')}"] or [] for tool in TOOLS}
    told = {option: given[option.strip("-").replace("-", "_")] for option in FACTS}
    made = any(results.values())
    if catalog is not None:
        others = {"CASES": cases, "--engine": engine, "--gpu": gpu, "--like": like, **told}
        others |= {"--write-cases": write_cases, "--own-catalog": own_catalog}
        others |= {f"--from-{tool}": paths or None for tool, paths in results.items()}
        _refuse(others, "has no part in --catalog, which refits what ships")
        _refit(catalog, out, left_out, workers, only)
        return
    _refuse({"--left-out": left_out, "--only": only}, "goes with --catalog")
    if not made:
        _refuse(told, "says what a result does not; cases say it themselves")
        _refuse({"--write-cases": write_cases}, "saves the cases made of a result, --from-...")
    if out is None:
        _refuse({"--engine": engine}, "is the name of the profile; name its file too, with -o")
        if write_cases is None:
            raise InputError(Problem("-o", "name the file to write, such as -o my-engine.yaml"))
    if cases is None and not made:
        raise InputError(
            Problem("CASES", "name a file of cases, or a benchmark's result with --from-vllm-bench")
        )
    _check_files(out, write_cases)
    name = "" if out is None else _name(engine, out)
    chosen = _cases_of_file(cases, gpu, own_catalog)
    if made:
        facts = {"gpu": gpu, "engine.profile": like} | {FACTS[o]: v for o, v in told.items()}
        chosen += _cases_of_results(results, _nested(facts), write_cases)
    if out is not None:
        files = [path for path in (cases, *(p for ps in results.values() for p in ps)) if path]
        _fit(chosen, name, like, files, out, own_catalog, workers)


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Raise InputError for options that would be ignored."""
    problems = [Problem(option, why) for option, value in options.items() if value is not None]
    if problems:
        raise InputError(problems)


def _check_files(out: Path | None, write_cases: Path | None) -> None:
    from factory_sim.report.file import check_file

    if out is not None and out.suffix != ".yaml":
        raise InputError(
            Problem("-o", f"{out} must end in .yaml, by which a scenario knows it for a file")
        )
    for path, option in ((out, "-o"), (write_cases, "--write-cases")):
        if path is not None:
            check_file(path, option)


def _name(engine: str | None, out: Path) -> str:
    name = out.stem if engine is None else engine
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name) or name.endswith(".yaml"):
        raise InputError(
            Problem("--engine", f"{name!r} is no name of a profile; take letters, digits, . - _ +")
        )
    return name


def _cases_of_file(cases: Path | None, gpu: str | None, folder: Path | None) -> list[Case]:
    """Return the cases of a file, those of `gpu` where it is given."""
    from factory_sim.catalog import load_catalog
    from factory_sim.catalog.names import plain
    from factory_sim.validation.case import read_cases

    facts = load_catalog(folder)
    if gpu is not None:
        try:
            facts.accelerator(gpu)
        except InputError as error:
            raise InputError(Problem("--gpu", p.message) for p in error.problems) from None
    if cases is None:
        return []
    found = read_cases(cases)
    own = [case for case in found if gpu is None or plain(case.gpu) == plain(gpu)]
    if not own:
        others = ", ".join(sorted({case.gpu for case in found}))
        raise InputError(Problem("--gpu", f"{cases} holds no case of {gpu}; it has {others}"))
    if other := len(found) - len(own):
        print(
            f"left out, as they are of other GPUs: {other} of {len(found)} cases", file=sys.stderr
        )
    return own


def _cases_of_results(
    results: Mapping[str, Sequence[Path]], known: Mapping[str, Any], write_cases: Path | None
) -> list[Case]:
    import yaml

    from factory_sim.report.file import write_file
    from factory_sim.validation.case import cases_from
    from factory_sim.validation.results import read_results

    documents = read_results(results, known)
    made = cases_from(documents, "results", Path())
    if write_cases is not None:
        text = yaml.safe_dump(
            documents, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
        )
        write_file(write_cases, text, "--write-cases")
        print(f"cases: {write_cases}, {len(made)} of them")
    return made


def _nested(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted fields as a case has them, without those that nobody gave."""
    nested: dict[str, Any] = {}
    for path, value in facts.items():
        top, _, below = path.partition(".")
        if value is None:
            continue
        if below:
            nested.setdefault(top, {})[below] = value
        else:
            nested[top] = value
    return nested


def _fit(
    cases: Sequence[Case],
    name: str,
    like: str | None,
    files: Iterable[Path],
    out: Path,
    folder: Path | None,
    workers: int | None,
) -> None:
    from factory_sim.catalog import load_catalog
    from factory_sim.report.calibration import lines
    from factory_sim.report.file import write_file
    from factory_sim.validation.profile import fit_profile, start_of, to_yaml

    facts = load_catalog(folder)
    start = start_of(cases, like, facts)
    with _watched("fitting") as say:
        profile = fit_profile(
            cases,
            name,
            start,
            f"fit to {', '.join(path.name for path in files)}",
            folder,
            _count(workers),
            None if say is None else (lambda done: say(f"fitting: {done:,} simulations")),
        )
    write_file(out, to_yaml(profile, facts), "-o")
    for line in lines(profile):
        print(line)
    print(f"\nengine profile: {out}; in a scenario, engine: {{profile: {out}}}")


def _refit(
    data: Path, out: Path | None, left_out: Path | None, workers: int | None, only: str | None
) -> None:
    """Fit the calibration that ships, and write it and how well it foretells models unseen.

    only: the one fit to repeat. Parameters of others stay as they ship, and so do the errors of
    models that others have seen.
    """
    from factory_sim.catalog.calibration import shipped
    from factory_sim.report.file import check_file, write_file
    from factory_sim.validation import catalog_fit
    from factory_sim.validation.targets import LEFT_OUT, left_out_by_model

    if out is None:
        raise InputError(Problem("-o", "name the file to write, such as -o calibration.yaml"))
    if only not in (None, *catalog_fit.FITS):
        raise InputError(Problem("--only", f"must be one of {', '.join(catalog_fit.FITS)}"))
    if left_out is None:
        left_out = out.with_name(LEFT_OUT)
    for path, option in ((out, "-o"), (left_out, "--left-out")):
        check_file(path, option)
    if left_out.absolute() == out.absolute():
        raise InputError(Problem("--left-out", f"{out} is what -o writes; name another file"))
    processes = _count(workers)
    with _watched("fitting") as say:
        tell = say or (lambda text: None)
        found = catalog_fit.fit_all(data, processes, tell, only)
        write_file(out, catalog_fit.text_of(found, shipped() if only else None), "-o")
        errors = catalog_fit.left_out(found, data, processes, tell, only)
        again = sorted(errors)
        errors = left_out_by_model() | errors if only else errors
        text = json.dumps(errors, indent=1, ensure_ascii=False, allow_nan=False)
        write_file(left_out, text + "\n", "--left-out")
    print(f"calibration: {out}")
    told = "each model left out" if not only else f"{', '.join(again) or 'no model'} left out anew"
    print(f"errors of {told}: {left_out}")


def _count(workers: int | None) -> int:
    return workers or os.cpu_count() or 1


@contextlib.contextmanager
def _watched(what: str) -> Iterator[Callable[[str], None] | None]:
    """Lend a way to say how far it is, on stderr, or None when nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with Console(file=sys.stderr).status(what) as status:
        yield status.update
