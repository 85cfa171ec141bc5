"""Trace readers: every format, every kind of bad row, and garbage."""

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.frozen import validate
from factory_sim.scenario.trace_file import TraceFile
from factory_sim.workload import records
from factory_sim.workload.csvs import open_csv
from factory_sim.workload.rows import TraceReport
from factory_sim.workload.traces import Trace, _read, read_trace
from tests.workload.making import TRACES, needs_traces

WHERE = "workload.chat.arrivals"


@pytest.fixture(autouse=True, params=["at once", "in chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every file once as it comes, and once a line or two at a time."""
    if request.param == "in chunks":
        monkeypatch.setattr(records, "open_csv", partial(open_csv, start=1, size=64))
    _read.cache_clear()


def read(
    folder: Path, text: str, name: str = "trace.csv", times: bool = True, **fields: Any
) -> tuple[Trace, TraceReport]:
    (folder / name).write_text(text)
    return read_trace(validate(TraceFile, {"path": name, **fields}), folder, WHERE, times)


def problem(folder: Path, text: str, name: str = "trace.csv", **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, name, **fields)
    return str(caught.value).replace(f"{folder}/", "")


def rows(trace: Trace) -> list[tuple[float, int, int]]:
    return list(
        zip(trace.arrival_s.tolist(), trace.prompt.tolist(), trace.output.tolist(), strict=True)
    )


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-17 18:15:46.6805901,879,55
"""


def test_azure_as_published_keeps_all_seven_decimals(tmp_path: Path) -> None:
    trace, report = read(tmp_path, AZURE)
    assert rows(trace) == [(0.0, 374, 44), (4.314579, 396, 109), (86400.0000001, 879, 55)]
    assert trace.session.tolist() == [-1, -1, -1]
    assert trace.cached is None
    assert (report.format, report.rows, report.used, report.span_s) == (
        "azure",
        3,
        3,
        86400.0000001,
    )
    assert str(report) == f"3 of 3 requests of {tmp_path / 'trace.csv'} (azure)"


def test_azure_of_2024_has_a_time_zone(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:00.017335+00:00,2399,6\n"
    )
    assert rows(read(tmp_path, text)[0]) == [(0.0, 2162, 5), (0.007405, 2399, 6)]


def test_times_are_the_numbers_nearest_to_what_is_written(tmp_path: Path) -> None:
    late = [f"{micro:06}" for micro in range(0, 1_000_000, 997)]
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    text += "".join(f"2024-05-10 00:00:01.{micro}+00:00,1,1\n" for micro in late)
    trace, _ = read(tmp_path, text)
    assert trace.arrival_s.tolist() == [float(f"0.{micro}") for micro in late]


def test_ours_with_cached_tokens_and_sessions(tmp_path: Path) -> None:
    text = (
        "arrival_s,input_toks,output_toks,cached_toks,session\n"
        "5,10,2,0,b\n6.5,20,3,20,a\n7,30,4,12,b\n8,9,1,0,\n"
    )
    trace, report = read(tmp_path, text)
    assert rows(trace) == [(0.0, 10, 2), (1.5, 20, 3), (2.0, 30, 4), (3.0, 9, 1)]
    assert trace.cached is not None
    assert trace.cached.tolist() == [0, 19, 12, 0]  # the last prompt token is always computed
    assert trace.session.tolist() == [0, 1, 0, -1]
    assert report.format == "factory"


def test_mooncake_plain_and_gzipped(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [*range(14)]},
        {
            "timestamp": 3052,
            "input_length": 7322,
            "output_length": 490,
            "hash_ids": [0, *range(14, 28)],
        },
    ]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    plain, report = read(tmp_path, text, "trace.jsonl")
    assert rows(plain) == [(0.0, 6758, 500), (3.052, 7322, 490)]
    assert plain.hashes is not None  # the last of each covers a part: nobody shares it
    assert plain.hashes.tolist() == [tuple(range(13)), (0, *range(13, 26))]
    assert (report.format, report.hash_tokens) == ("mooncake", 512)
    with gzip.open(tmp_path / "trace.jsonl.gz", "wt") as file:
        file.write(text)
    packed, _ = read_trace(TraceFile(path="trace.jsonl.gz"), tmp_path, WHERE)
    assert rows(packed) == rows(plain)


def test_burstgpt_failures_are_skipped_and_said_but_are_no_fault(tmp_path: Path) -> None:
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,"
        "Response tokens,Total tokens,Log Type\n"
        "5,7,1.0,ChatGPT,472,18,490,Conversation log\n"
        "45,,1.0,ChatGPT,1087,0,1087,API log\n"
        "118,7,1.0,GPT-4,417,276,693,Conversation log\n"
    )
    trace, report = read(tmp_path, text)
    assert rows(trace) == [(0.0, 472, 18), (113.0, 417, 276)]
    assert trace.session.tolist() == [0, 0]
    assert (report.skipped, report.malformed) == ({"failed in the trace": 1}, 0)
    assert str(report).endswith("(burstgpt); skipped: 1 failed in the trace (line 3)")


def test_burstgpt_before_sessions(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens,Log Type\n5,GPT-4,4,1,API log\n"
    assert read(tmp_path, text)[0].session.tolist() == [-1]


SHAREGPT = [
    {
        "id": "a",
        "conversations": [
            {"from": "human", "tokens": 10},
            {"from": "gpt", "tokens": 20},
            {"from": "human", "tokens": 5},
            {"from": "gpt", "tokens": 7},
        ],
    },
    {
        "id": "b",
        "conversations": [
            {"role": "user", "num_tokens": 3},
            {"role": "assistant", "num_tokens": 4},
        ],
    },
]


@pytest.mark.parametrize("lines", [False, True])
def test_sharegpt_asks_again_with_all_that_was_said(tmp_path: Path, lines: bool) -> None:
    text = "\n".join(map(json.dumps, SHAREGPT)) if lines else json.dumps(SHAREGPT)
    trace, report = read(tmp_path, text, "chat.json", times=False)
    assert trace.prompt.tolist() == [10, 35, 3]
    assert trace.output.tolist() == [20, 7, 4]
    assert trace.session.tolist() == [0, 0, 1]
    assert report.format == "sharegpt"


def test_sharegpt_without_times_cannot_be_replayed(tmp_path: Path) -> None:
    assert problem(tmp_path, json.dumps(SHAREGPT), "chat.json") == (
        f"{WHERE}.path: chat.json has no arrival times; take arrivals from a process such as "
        "poisson and write lengths: {trace: {path: chat.json}}"
    )


def test_sharegpt_without_counts_is_named(tmp_path: Path) -> None:
    text = json.dumps([{"conversations": [{"from": "human", "value": "hello"}]}])
    found = problem(tmp_path, text, "chat.json", times=False, format="sharegpt", allow_malformed=1)
    assert "a turn without its whole number of tokens" in found


def test_any_csv_by_its_columns(tmp_path: Path) -> None:
    columns = {
        "arrival": "t",
        "prompt": "in",
        "output": "out",
        "cached": "hit",
        "session": "user",
        "time_unit": "ms",
    }
    text = "user,t,in,out,hit\nann,1000,5,6,1\nbob,2500,7,8,0\n"
    trace, report = read(tmp_path, text, format="csv", columns=columns)
    assert rows(trace) == [(0.0, 5, 6), (1.5, 7, 8)]
    assert trace.session.tolist() == [0, 1]
    assert report.format == "csv"


def test_any_jsonl_by_its_columns(tmp_path: Path) -> None:
    columns = {"arrival": "at", "prompt": "in", "output": "out", "time_unit": "timestamp"}
    text = (
        '{"at": "2024-01-01T00:00:00Z", "in": 5, "out": 6}\n'
        '{"at": "2024-01-01T00:01:00Z", "in": 7.0, "out": 8}\n'
    )
    assert rows(read(tmp_path, text, columns=columns)[0]) == [(0.0, 5, 6), (60.0, 7, 8)]


def test_rows_out_of_order_are_sorted_and_said(tmp_path: Path) -> None:
    text = "arrival_s,input_toks,output_toks\n1,1,1\n0,2,1\n1,3,1\n0.5,4,1\n"
    trace, report = read(tmp_path, text)
    assert trace.arrival_s.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert trace.prompt.tolist() == [2, 4, 1, 3]
    assert report.out_of_order == 2
    assert str(report).endswith("2 arrived before the row above them; sorted")


BAD = """arrival_s,input_toks,output_toks,cached_toks
0,10,2,0
nan,10,2,0
inf,10,2,0
soon,10,2,0
-1,10,2,0
2,0,2,0
2,-5,2,0
2,10,0,0
2,10.5,2,0
2,many,2,0
2,1e300,2,0
2,10,,0
2,10,2,-1
2,10,2,11
2,10,2
2,10,2,0,9
3,10,2,10
"""


def test_every_kind_of_bad_row_is_counted_under_its_reason(tmp_path: Path) -> None:
    trace, report = read(tmp_path, BAD, allow_malformed="90 %")
    assert rows(trace) == [(0.0, 10, 2), (3.0, 10, 2)]
    lines = BAD.splitlines()
    expected = {
        "too few fields": ["2,10,2"],
        "too many fields": ["2,10,2,0,9"],
        "arrival_s is not a time": ["nan,10,2,0", "inf,10,2,0", "soon,10,2,0"],
        "arrival_s is negative": ["-1,10,2,0"],
        "input_toks is not a whole number": ["2,10.5,2,0", "2,many,2,0"],
        "input_toks is above 1073741824": ["2,1e300,2,0"],
        "input_toks is below 1": ["2,0,2,0", "2,-5,2,0"],
        "output_toks is not a whole number": ["2,10,,0"],
        "output_toks is below 1": ["2,10,0,0"],
        "cached_toks is below 0": ["2,10,2,-1"],
        "cached_toks is more than input_toks": ["2,10,2,11"],
    }
    found = {reason: [lines[n - 1] for n in at] for reason, at in report.first_lines.items()}
    assert found == expected
    assert report.skipped == {reason: len(at) for reason, at in expected.items()}
    assert report.rows == report.used + report.malformed == 17


def test_bad_rows_stop_the_run_and_say_what_would_work(tmp_path: Path) -> None:
    text = "arrival_s,input_toks,output_toks\n" + "1,2,3\n" * 992 + "1,0,3\n" * 7 + "1,2,x\n"
    assert problem(tmp_path, text) == (
        f"{WHERE}.path: 8 of 1000 rows of trace.csv are malformed (0.80%; allowed: 0.00%): "
        "7 input_toks is below 1 (lines 994, 995, 996, 997, 998, ...); "
        "1 output_toks is not a whole number (line 1001). "
        "Mend the file, or skip them with allow_malformed: 0.8 %"
    )
    assert read(tmp_path, text, allow_malformed="0.8 %")[1].used == 992
    assert "allowed: 0.70%" in problem(tmp_path, text, allow_malformed="0.7 %")


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("", {}, "trace.csv is empty"),
        ("  \n\n", {}, "trace.csv is empty"),
        (
            "arrival_s,input_toks,output_toks\n",
            {},
            "trace.csv holds no request",
        ),
        (
            "time,in,out\n1,2,3\n",
            {},
            "trace.csv is in no known format (azure, factory, mooncake, burstgpt); name its "
            "columns, for example {arrival: time, prompt: input_tokens, output: "
            "output_tokens, time_unit: ms}. "
            "It has: time, in, out",
        ),
        (
            "arrival_s,input_toks,output_toks\n1,2,3\n",
            {"format": "azure"},
            "trace.csv has no column ContextTokens, GeneratedTokens, TIMESTAMP; it has: "
            "arrival_s, input_toks, output_toks",
        ),
        (
            "arrival_s,input_toks,output_toks,input_toks\n1,2,3,4\n",
            {},
            "trace.csv has the column input_toks twice",
        ),
        (
            "arrival_s;input_toks;output_toks\n1;2;3\n",
            {},
            "trace.csv has its fields parted by ';'; part them by commas",
        ),
        (
            "a\0r\0r\0i\0v\0a\0l\0\n",
            {},
            "trace.csv is no text; give it as CSV or JSON lines in UTF-8",
        ),
        ("[1, 2", {}, "trace.csv is not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, fields: dict[str, Any], message: str
) -> None:
    assert problem(tmp_path, text, **fields) == f"{WHERE}.path: {message}"


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    columns = {"arrival": "time", "prompt": "input", "output": "out"}
    assert problem(tmp_path, "time,in,out\n1,2,3\n", columns=columns) == (
        f"{WHERE}.columns.prompt: trace.csv has no column input; it has: time, in, out"
    )


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path, reason in (("no.csv", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(InputError) as caught:
            read_trace(TraceFile(path=path), tmp_path, WHERE)
        assert str(caught.value).startswith(f"{WHERE}.path: cannot read {tmp_path / path}")
        assert reason in str(caught.value)


def test_a_broken_gzip_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(AZURE.encode() * 50)[:60])
    with pytest.raises(InputError, match="cannot read"):
        read_trace(TraceFile(path="t.csv.gz"), tmp_path, WHERE)


def test_a_gzip_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    for path, content in (("t.csv", gzip.compress(AZURE.encode())), ("t.csv.gz", AZURE.encode())):
        (tmp_path / path).write_bytes(content)
        assert read_trace(TraceFile(path=path), tmp_path, WHERE)[1].format == "azure"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    text = "arrival_s,input_toks,output_toks\n1,2,3\n"
    assert rows(read(tmp_path, text)[0]) == [(0.0, 2, 3)]
    assert rows(read(tmp_path, text + "2,20,3\n")[0]) == [(0.0, 2, 3), (1.0, 20, 3)]


HEADS = st.sampled_from(
    [
        "",
        "arrival_s,input_toks,output_toks\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n",
        "Timestamp,Session ID,Request tokens,Response tokens\n",
        '{"timestamp": 1, "input_length": 2, "output_length": 3}\n',
        '[{"conversations": [{"from": "human", "tokens": 1}]},',
        "[",
    ]
)
CELL = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=6),
    st.sampled_from(
        ["1", "2", "9999-12-31", "1600-01-01", "2024-01-01 00:00:00.1234567", "{", "[[", "null"]
    ),
)
BODY = st.lists(st.lists(CELL, max_size=4).map(",".join), max_size=6).map("\n".join)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=HEADS,
    body=st.one_of(BODY, st.binary(max_size=60)),
    name=st.sampled_from(["auto", "azure", "burstgpt", "mooncake", "sharegpt"]),
)
@example(head="", body="[" * 100_000, name="auto")
@example(head="", body='{"a":' * 100_000, name="auto")
@example(
    head="",
    body='{"timestamp": 1, "input_length": ' + "9" * 5000 + ', "output_length": 1}',
    name="auto",
)
@example(
    head="",
    body='{"timestamp": 1, "input_length": 1' + "0" * 400 + ', "output_length": 1}',
    name="auto",
)
@example(
    head="TIMESTAMP,ContextTokens,GeneratedTokens\n",
    body="9999-12-31,1,1\n2024-01-01 00:00:00.1234567,1,1",
    name="auto",
)
@example(head="arrival_s,input_toks,output_toks\n", body='"' + "x" * 200_000, name="auto")
@example(head='[{"conversations": [{"from": [], "tokens": 1}]}]', body="", name="auto")
def test_garbage_gives_requests_or_one_clear_error(
    tmp_path: Path, head: str, body: str | bytes, name: str
) -> None:
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    (tmp_path / "garbage").write_bytes(head.encode() + raw)
    file = validate(TraceFile, {"path": "garbage", "format": name, "allow_malformed": 1})
    for times in (True, False):
        try:
            trace, report = read_trace(file, tmp_path, WHERE, times)
        except InputError as error:
            assert len(error.problems) == 1
            assert error.problems[0].path == f"{WHERE}.path"
        else:
            assert report.used == len(trace.prompt) > 0
            assert (trace.prompt >= 1).all() and (trace.output >= 1).all()
            assert (trace.arrival_s >= 0.0).all()


@needs_traces
@pytest.mark.parametrize("chunks", ["at once"], indirect=True)
@pytest.mark.parametrize(
    ("name", "found", "n", "span_s"),
    [
        ("azure2023_conv.csv", "factory", 19_366, 3501.721937),
        ("azure2023_code.csv", "factory", 8_819, 3435.948056),
        ("mooncake/conversation_trace.jsonl.gz", "mooncake", 12_031, 3536.999),
    ],
)
def test_the_measured_traces_are_read_whole(name: str, found: str, n: int, span_s: float) -> None:
    trace, report = read_trace(TraceFile(path=name), TRACES, WHERE)
    assert (report.format, report.used, report.malformed, report.out_of_order) == (found, n, 0, 0)
    assert trace.arrival_s[-1] == pytest.approx(span_s, abs=1e-6)
