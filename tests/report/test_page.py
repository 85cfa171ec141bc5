"""A report says what its run says, needs nothing else, and escapes what users have named."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from factory_sim.errors import InputError
from factory_sim.report import folder, plots
from factory_sim.report.layout import Entry, Table, rendered
from factory_sim.report.page import chapters
from factory_sim.report.page.answer import Answer, keep, read_answer
from factory_sim.report.page.document import COMPARED, Document, document
from factory_sim.report.page.html import html
from factory_sim.report.page.markdown import markdown
from factory_sim.report.page.picture import Picture
from factory_sim.report.page.write import browser, write_page
from factory_sim.report.saved import SavedRun
from tests.report import synthetic


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    return folder.save(synthetic.run(600), out, plots=False)


@pytest.fixture(scope="module")
def run(saved: Path) -> SavedRun:
    return folder.read(saved)


@pytest.fixture(scope="module")
def told(run: SavedRun) -> Document:
    return document([run])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one plot drawn, where it is not plots that are asked of."""
    monkeypatch.setattr(chapters, "plots_of", lambda run: {"gpu_time": plots.PLOTS["gpu_time"]})


class Page(HTMLParser):
    """What a browser would make of a page, as far as a test asks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.labels: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        if given.get("role") == "img":
            self.labels.append(given.get("aria-label") or "")
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.links += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_page_answers_first_and_shows_every_plot(told: Document, run: SavedRun) -> None:
    page = Page(html(told))
    assert not page.open
    text = page.text
    at = [text.index(words) for words in ("output tokens/s", "what binds", "Latency in", "MW")]
    assert at[0] < at[1] < at[2]
    assert f"{run.summary['requests_arrived']:,} arrived" in text
    pictures = [picture for part in told.runs[0].chapters for picture in part.pictures]
    assert {"latency", "power", "flow", "gpu_time"} <= {picture.name for picture in pictures}
    assert page.labels == [f"{picture.question} {picture.answer}" for picture in pictures]
    assert all(label.strip() for label in page.labels)


def test_one_mean_queue_is_told(told: Document) -> None:
    (flow,) = (
        picture
        for part in told.runs[0].chapters
        for picture in part.pictures
        if picture.name == "flow"
    )
    assert "at most" in flow.answer  # samples have no mean beside that of the stations
    assert "in the mean" not in flow.answer


def test_every_heading_of_the_summary_is_in_a_chapter(told: Document) -> None:
    assert "More" not in [part.heading for part in told.runs[0].chapters]


def test_it_needs_no_network_no_script_and_no_other_file(told: Document) -> None:
    text = html(told)
    page = Page(text)
    assert all(link.startswith("#") for link in page.links)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in text and set(re.findall(r"url\((.)", text)) <= {"#"}
    assert len(text) < 3_000_000


@pytest.mark.usefixtures("few")
def test_the_same_run_gives_the_same_page(run: SavedRun) -> None:
    assert html(document([run])) == html(document([run]))
    assert markdown(document([run]), "files") == markdown(document([run]), "files")


def test_every_assumption_has_its_kind_and_its_source(told: Document) -> None:
    (only,) = told.runs
    assert list(only.assumptions) == ["accelerator h100-sxm", "engine vllm"]
    (tdp,) = only.assumptions["accelerator h100-sxm"]
    assert (tdp.figure, tdp.value, tdp.kind) == ("tdp", "700 W", "datasheet")
    assert only.sources[tdp.source - 1] == "NVIDIA H100 datasheet"
    for text in (Page(html(told)).text, markdown(told, "files")):
        assert "NVIDIA H100 datasheet" in text and "2 ms" in text


@pytest.mark.usefixtures("few")
def test_what_users_have_named_is_shown_and_never_run(run: SavedRun) -> None:
    hostile = "<script>alert(1)</script>|`x`"
    summary = {**run.summary, "deployments": {hostile: run.summary["deployments"]["chat"]}}
    named = replace(run, scenario={**run.scenario, "name": hostile}, summary=summary)
    text = html(document([named]))
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "script" not in Page(text).tags
    assert "\\<script\\>" in markdown(document([named]), "files").splitlines()[0]


@pytest.mark.usefixtures("few")
def test_several_runs_stand_side_by_side(run: SavedRun) -> None:
    faster = {**run.summary, "output_tokens_per_s": 2.0 * run.summary["output_tokens_per_s"]}
    both = document([run, replace(run, summary=faster)])
    assert [told.name for told in both.runs] == ["synthetic", "synthetic (2)"]
    assert both.compared is not None
    rows = {row[0]: row[1:] for row in both.compared.rows}
    assert rows["output tokens/s"][1].endswith("(+100 %)")
    assert rows["TTFT p99, ms"][0] == rows["TTFT p99, ms"][1]
    assert {label for label in rows if label} <= {label for _, label in COMPARED} | {"what binds"}
    page = Page(html(both))
    assert len(page.ids) == len(set(page.ids))
    assert "Side by side" in markdown(both, "files")


@pytest.mark.usefixtures("few")
def test_a_page_is_written_as_its_ending_says(saved: Path, tmp_path: Path) -> None:
    write_page([saved], tmp_path / "new" / "r.html")
    write_page([saved], tmp_path / "new" / "r.md")
    assert (tmp_path / "new" / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "new" / "r.md").read_text().startswith("# synthetic\n")


@pytest.mark.usefixtures("few")
def test_markdown_shows_plots_from_files_beside_it(saved: Path, tmp_path: Path) -> None:
    for _ in range(2):  # again over itself
        assert write_page([saved, saved], tmp_path / "my run.md") == tmp_path / "my run_files"
    text = (tmp_path / "my run.md").read_text()
    shown = re.findall(r"^!\[(.+)\]\((.+)\)$", text, flags=re.MULTILINE)
    assert [unquote(path) for _, path in shown] == [
        f"my run_files/r{place}-gpu_time.svg" for place in (0, 1)
    ]
    assert all("Where" in words for words, _ in shown)
    for _, path in shown:
        ElementTree.fromstring((tmp_path / unquote(path)).read_text())
    assert len(list((tmp_path / "my run_files").iterdir())) == 2


@pytest.mark.usefixtures("few")
def test_markdown_replaces_nothing_but_plots(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "r_files").mkdir()
    (tmp_path / "r_files" / "thesis.docx").write_text("")
    with pytest.raises(InputError, match="has other things in it; name the report otherwise"):
        write_page([saved], tmp_path / "r.md")
    assert (tmp_path / "r_files" / "thesis.docx").exists() and not (tmp_path / "r.md").exists()


@pytest.mark.usefixtures("few")
def test_what_cannot_be_written_or_read_is_said(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in one of \.html, \.md, \.pdf"):
        write_page([saved], tmp_path / "r.docx")
    with pytest.raises(InputError, match="name the folder of a run"):
        write_page([tmp_path], tmp_path / "r.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out: .* (cannot be written|is no folder)"):
        write_page([saved], tmp_path / "file" / "r.html")


@pytest.mark.usefixtures("few")
def test_a_pdf_without_a_browser_says_what_to_do(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs Chromium, which is not here; write \.html"):
        write_page([saved], tmp_path / "r.pdf")


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="needs Chromium: apt-get install chromium")
class TestInABrowser:
    @pytest.mark.parametrize("width", [390, 1400])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_and_says_nothing_on_the_console(
        self, saved: Path, tmp_path: Path, width: int, scheme: str
    ) -> None:
        from playwright.sync_api import sync_playwright

        write_page([saved, saved], tmp_path / "r.html")
        said: list[str] = []
        with sync_playwright() as play:
            window = play.chromium.launch(
                executable_path=browser(),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = window.new_page(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: said.append(request.url))
            page.goto((tmp_path / "r.html").as_uri())
            for shut in page.locator("details").all():
                shut.evaluate("element => element.open = true")
            wide = page.evaluate("document.documentElement.scrollWidth")
            ink, paper = page.evaluate(
                "[getComputedStyle(document.body).color,"
                " getComputedStyle(document.body).backgroundColor]"
            )
            window.close()
        assert said == [(tmp_path / "r.html").as_uri()]
        assert wide == width
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
        assert (light[0] < light[1]) == (scheme == "light")

    def test_it_prints(self, saved: Path, tmp_path: Path) -> None:
        write_page([saved], tmp_path / "r.pdf")
        assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-")


class TestManyRuns:
    """A page of what many runs came to is made of what their command has kept."""

    ANSWER = Answer(
        "Size of <b>x</b>",
        "what fits its demand",
        ["a line", Entry("answer", "3 racks"), Table([["racks", "kept"], ["3", "yes"]], (0, 1))],
        [Picture("p", "Why?", "So.", '<svg viewBox="0 0 1 1"><g id="a"/></svg>')],
        {"name": "x", "seed": 1},
        "factory-sim size 'my site.yaml'",
    )

    def test_it_comes_back_as_it_was_kept(self, tmp_path: Path) -> None:
        assert keep(self.ANSWER, tmp_path / "new") == ""
        again = read_answer(tmp_path / "new")
        assert again._replace(blocks=(), pictures=()) == self.ANSWER._replace(
            blocks=(), pictures=()
        )
        assert list(again.pictures) == self.ANSWER.pictures
        assert list(rendered(again.blocks)) == list(rendered(self.ANSWER.blocks))

    def test_its_page_says_all_of_it(self, tmp_path: Path) -> None:
        keep(self.ANSWER, tmp_path)
        for name in ("r.html", "r.md"):
            write_page([tmp_path], tmp_path / name)
        text = (tmp_path / "r.html").read_text()
        page = Page(text)
        assert "<b>" not in text and "Size of <b>x</b>" in page.text
        for words in ("a line", "answer 3 racks", "racks kept 3 yes", "factory-sim size 'my site"):
            assert words in page.text
        assert "r0-p-a" in page.ids and page.labels == ["Why? So."]
        told = (tmp_path / "r.md").read_text()
        assert "- answer: 3 racks" in told and "| 3 | yes |" in told

    @pytest.mark.usefixtures("few")
    def test_it_stands_beside_a_run(self, run: SavedRun) -> None:
        both = document([run, self.ANSWER])
        assert both.compared is None and len(both.runs) == 2
        assert len(Page(html(both)).labels) == 2

    def test_what_is_broken_or_of_another_time_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "answer.json").write_text("{")
        with pytest.raises(InputError, match="cannot be read"):
            read_answer(tmp_path)
        (tmp_path / "answer.json").write_text('{"schema_version": 99}')
        with pytest.raises(InputError, match="has schema version 99, this release reads 1"):
            read_answer(tmp_path)

    def test_a_folder_that_takes_no_more_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "could not be written" in keep(self.ANSWER, tmp_path / "file")
