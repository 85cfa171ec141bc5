"""Writing a report: HTML, Markdown with its plots beside it, or PDF where a browser is at hand."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from factory_sim.atomic import replacing
from factory_sim.errors import InputError, Problem
from factory_sim.report.file import check_file, write_file
from factory_sim.report.folder import read
from factory_sim.report.page.answer import FILE, Answer, read_answer
from factory_sim.report.page.document import Document, document
from factory_sim.report.page.html import html
from factory_sim.report.page.markdown import markdown, pictures
from factory_sim.report.saved import SavedRun

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What a browser that prints is called, the first that is there."""

PATIENCE_S = 120.0
"""For which a browser may print."""


def write_page(runs: Sequence[Path], out: Path) -> Path | None:
    """Write the report of folders as `out`, as its ending says: .html, .md or .pdf.

    Each holds a run, or what many runs came to. Returns the folder of its pictures, where they are
    files beside it: `report_files` of `report.md`.

    Raises InputError for a folder that is no run, another ending, a PDF without a browser, or a
    file that cannot be written.
    """
    beside = out.with_name(f"{out.stem}_files")
    formats: dict[str, Callable[[Document], bytes]] = {
        ".html": lambda told: html(told).encode(),
        ".md": lambda told: markdown(told, beside.name).encode(),
        ".pdf": lambda told: _pdf(html(told)),
    }
    if out.suffix not in formats:
        known = ", ".join(formats)
        raise InputError(Problem("--out", f"{out} must end in one of {known}"))
    check_file(out, "--out")
    if out.suffix == ".md":
        _check_pictures(beside)
    told = document([_read(folder) for folder in runs])
    content = formats[out.suffix](told)
    drawn = pictures(told) if out.suffix == ".md" else {}
    if drawn:
        _write_pictures(beside, drawn)
    write_file(out, content, "--out")
    return beside if drawn else None


def _check_pictures(folder: Path) -> None:
    """Raise InputError for a folder that holds what is not ours to replace."""
    if folder.exists() and not (
        folder.is_dir() and all(each.suffix == ".svg" for each in folder.iterdir())
    ):
        said = "would hold the plots, but has other things in it; name the report otherwise"
        raise InputError(Problem("--out", f"{folder} {said}"))


def _write_pictures(folder: Path, drawn: Mapping[str, str]) -> None:
    """Write the pictures as the whole of a folder, at once."""
    try:
        with replacing(folder) as place:
            for name, svg in drawn.items():
                (place / name).write_text(svg, encoding="utf-8")
    except OSError as error:
        said = f"{folder} cannot be written: {error.strerror or error}"
        raise InputError(Problem("--out", said)) from None


def _read(folder: Path) -> SavedRun | Answer:
    """Return what a folder holds: what many runs came to, or one run."""
    return read_answer(folder) if (folder / FILE).is_file() else read(folder)


def browser() -> str | None:
    """Return the browser that prints, if there is one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def _pdf(text: str) -> bytes:
    """Return a page as a browser prints it."""
    program = browser()
    if program is None:
        said = "a PDF needs Chromium, which is not here; write .html, and print that"
        raise InputError(Problem("--out", said))
    with tempfile.TemporaryDirectory() as folder:
        page, target = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(text, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        options += ["--disable-sync", "--no-first-run", f"--user-data-dir={folder}/profile"]
        options += ["--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri()]
        try:
            subprocess.run(
                [program, *options], capture_output=True, timeout=PATIENCE_S, check=False
            )
            return target.read_bytes()
        except (OSError, subprocess.TimeoutExpired) as error:
            said = f"{program} did not print it: {error}; write .html, and print that"
            raise InputError(Problem("--out", said)) from None
