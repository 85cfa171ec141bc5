"""CSV in chunks: the same as line by line on any file, many times as fast, and in place."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow

from factory_sim.scenario.trace_file import Columns
from factory_sim.workload import csvs
from factory_sim.workload.csvs import Rows, open_csv
from factory_sim.workload.rows import TraceReport, Usable, usable

HEAD = "at,in,out,hit,who\n"
COLUMNS = Columns(prompt="in", output="out", arrival="at", cached="hit", session="who")


def row_by_row(content: bytes) -> list[Any]:
    """Return the rows as Python's csv module has them, read whole."""
    text = content.decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    next(reader)
    return [(reader.line_num, row) for row in reader if row]


def in_chunks(content: bytes, start: int, size: int) -> tuple[list[Any], int]:
    """Return the rows as they come in chunks, and how many came many at once."""
    head, rows = open_csv(io.BytesIO(content), Path("t.csv"), start, size)
    assert head == ["at", "in", "out", "hit", "who"]
    found: list[Any] = []
    plain = 0
    for row in rows:
        if isinstance(row, Rows):
            columns = [row.columns[name].to_pylist() for name in head]
            found += zip(
                range(row.first, row.first + row.many),
                map(list, zip(*columns, strict=True)),
                strict=True,
            )
            plain += row.many
        elif isinstance(row[1], str):
            found.append((row[0], row[1]))
        else:
            found.append((row[0], list(row[1].values())))
    return found, plain


FIELD = st.one_of(
    st.sampled_from(
        ["1", "20", "x", "", " ", "é", '"', '"a,b"', '"a\nb"', '"a""b"', "\x00", "\u2028"]
    ),
    st.text(max_size=3),
)
LINE = st.one_of(st.just("1,2,3,4,5"), st.lists(FIELD, max_size=6).map(",".join))
END = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n"])
BODY = st.lists(st.tuples(LINE, END), max_size=12).map(
    lambda lines: "".join(map("".join, lines)).encode("utf-8", "surrogatepass")
)


@settings(max_examples=100, deadline=None)
@given(
    body=st.one_of(BODY, BODY, st.binary(max_size=40)),
    marked=st.booleans(),
    start=st.integers(1, 40),
    size=st.integers(1, 60),
)
@example(body=b"1,2,3,4,5\r\n" * 5, marked=True, start=1, size=11)
@example(body=b"1,2,3,4,5\n" * 5 + b"1,2,3,4,5", marked=False, start=1, size=25)
@example(body=b"1,2,3,4,5\n1,\xff,3,4,5\n" * 3, marked=False, start=1, size=25)
def test_rows_in_chunks_are_those_of_the_csv_module(
    body: bytes, marked: bool, start: int, size: int
) -> None:
    content = (csvs.MARK if marked else b"") + HEAD.encode() + body
    expected = [
        (n, row if len(row) == 5 else f"too {'few' if len(row) < 5 else 'many'} fields")
        for n, row in row_by_row(content)
    ]
    found, plain = in_chunks(content, start, size)
    event(f"plain: {'all' if plain == len(found) else 'some' if plain else 'none'}")
    assert found == expected


def test_only_a_chunk_with_something_to_argue_about_is_read_with_care() -> None:
    fine, quoted = "1,2,3,4,5\n" * 10, '1,,"\n",,5\n' + "1,2,3,4,5\n" * 9
    content = (HEAD + fine + quoted + fine).encode()
    found, plain = in_chunks(content, len(HEAD), len(fine))
    assert plain == 20
    assert [n for n, _ in found] == [*range(2, 12), *range(13, 33)]
    assert found[10] == (13, ["1", "", "\n", "", "5"])


def test_a_line_too_long_for_the_csv_module_is_refused_in_any_chunk() -> None:
    content = (HEAD + "1,2,3,4,5\n" + "1,2,3,4," + "x" * 140_000 + "\n").encode()
    with pytest.raises(csv.Error, match="field larger than field limit"):
        in_chunks(content, len(HEAD), 10)


def digest(content: bytes, columns: Columns, start: int, size: int) -> tuple[Usable, TraceReport]:
    report = TraceReport("t.csv", "csv")
    _, rows = open_csv(io.BytesIO(content), Path("t.csv"), start, size)
    return usable(rows, columns, True, report), report


NUMBER = st.one_of(
    st.integers(-1, 30).map(str),
    st.sampled_from(
        ["1e1", "1.", ".5", "+3", " 4", "5 ", "0x10", "1_0", "nan", "-inf", "nan(1)", "1e999", "１"]
    ),
    st.sampled_from(["", "NA", "null", "true", "9" * 40, "9007199254740993", "1e-400", "-0"]),
)
DATE = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["2024-01-01", "2024-02-29", "2023-02-29", "1970-01-01", "2200-12-31"])
        | st.sampled_from(["1600-01-01", "9999-12-31", "20240101", "2024-1-1", " 2024-01-01"]),
        st.sampled_from(["", " 00:00", "T23:59:59", " 00:00:01.1234567", " 12:00:00.123456789"])
        | st.sampled_from([" 24:00:00", " 23:59:60", "T01", " 00:00:01.", " 00:00:00.0123456789"]),
        st.sampled_from(["", "Z", "+00:00", "-0930", "+14", "x"]),
    ),
)
GOOD_DATE = st.datetimes().map(lambda t: t.replace(year=2024).isoformat(" "))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), dates=st.booleans(), start=st.integers(1, 80), size=st.integers(1, 300))
def test_requests_in_chunks_are_those_read_with_care(
    data: st.DataObject, dates: bool, start: int, size: int
) -> None:
    plain_time = GOOD_DATE if dates else st.floats(0.0, 9.0).map(str)
    odd_time = DATE if dates else NUMBER
    whole = st.integers(1, 30).map(str)
    who = st.sampled_from(["a", "b", "", "7", "ä"])
    good = st.tuples(plain_time, whole, whole, st.just("0"), who)
    odd = st.tuples(odd_time, NUMBER, NUMBER, NUMBER, who)
    lines = data.draw(st.lists(st.one_of(good, good, odd).map(",".join), max_size=15))
    content = (HEAD + "\n".join(lines)).encode()
    columns = COLUMNS.model_copy(update={"time_unit": "timestamp" if dates else "ms"})
    found, report = digest(content, columns, start, size)
    careful, expected = digest(content, columns, len(content) + 1, size)
    assert report == expected
    for name in careful:
        assert found[name].tobytes() == careful[name].tobytes()
        assert found[name].dtype == careful[name].dtype or not len(careful["prompt"])


def azure(path: Path, n: int) -> None:
    """Write a file like Azure's of 2024, with made-up requests."""
    random = np.random.default_rng(1)
    first = np.datetime64("2024-05-10", "us")
    times = first + np.cumsum(random.integers(1, 40_000, n)).astype("m8[us]")
    table = pa.table(
        {
            "TIMESTAMP": pa.array(times, pa.timestamp("us")),
            "ContextTokens": random.integers(1, 8000, n),
            "GeneratedTokens": random.integers(1, 1000, n),
        }
    )
    arrow.write_csv(table, path, arrow.WriteOptions(quoting_style="none"))


PEAK = """
import sys
from pathlib import Path
import numpy as np
from factory_sim.scenario.workload import TraceArrivals
from factory_sim.workload.scaling import replay
from factory_sim.workload.traces import read_trace


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def replayed(name: str) -> int:
    arrivals = TraceArrivals(process="trace", path=name)
    trace, _ = read_trace(arrivals, Path(sys.argv[1]), "arrivals")
    parts = replay(trace, arrivals, 1e9, np.random.default_rng(1), 65_536)
    return sum(len(part.prompt) for part in parts)


replayed("small.csv")  # what reading itself takes is there from here on
before = peak()
print(replayed("large.csv"), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_three_million_rows_are_read_and_replayed_in_place(tmp_path: Path) -> None:
    n = 3_000_000
    azure(tmp_path / "small.csv", 10_000)
    azure(tmp_path / "large.csv", n)
    command = [sys.executable, "-c", PEAK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, grown = map(int, done.stdout.split())
    print(f"\n{rows} rows: {grown / n:.1f} bytes a row at the peak, 24 of them columns")
    assert rows == n
    assert grown < 1.6 * 24 * n


def seconds(path: Path) -> float:
    start = process_time()
    columns = Columns(
        arrival="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens", time_unit="timestamp"
    )
    with path.open("rb") as file:
        _, rows = open_csv(file, path)
        usable(rows, columns, False, TraceReport(str(path), "azure"))
    return process_time() - start


@pytest.mark.alone
@pytest.mark.slow
def test_chunks_are_several_times_as_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 200_000
    azure(tmp_path / "t.csv", n)
    fast = min(seconds(tmp_path / "t.csv") for _ in range(3))
    monkeypatch.setattr(csvs, "plain", lambda chunk, width: None)
    careful = min(seconds(tmp_path / "t.csv") for _ in range(3))
    print(f"\n{careful / n * 1e6:.2f} us a row with care, {fast / n * 1e6:.2f} in chunks")
    assert careful > 3.0 * fast
