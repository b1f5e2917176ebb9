"""A file that is not what it should be: path, line, column, what was expected, what was there."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillway.sim.traces import TraceError, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
MOONCAKE = '{"timestamp": 0, "input_length": 9, "output_length": 5, "hash_ids": [1]}\n'
MATRIX = '{"status": "success", "data": {"resultType": "matrix", "result": [...]}}'

CASES = [
    (AZURE + "2023-11-16 18:17:04,1,ten\n", 3, 3, "a whole number from 0 up", "'ten'"),
    (AZURE + "\n2023-11-16 18:17:04,-4,1\n", 4, 2, "from 0 up in ContextTokens", "'-4'"),
    (AZURE + "2023-11-16 18:17:04,1.5,1\n", 3, 2, "a whole number", "'1.5'"),
    (AZURE + "2023-11-16 18:17:04,nan,1\n", 3, 2, "a whole number", "'nan'"),
    (AZURE + "yesterday,1,1\n", 3, 1, "an ISO 8601 time", "'yesterday'"),
    (AZURE + "2023-11-16 18:17:04+00:00,1,1\n", 3, 1, "a time zone in", "18:17"),
    (AZURE + "2023-11-16 18:17:04,1\n", 3, 3, "3 fields (TIMESTAMP, ContextTokens", "2"),
    (AZURE + "2023-11-16 18:17:04,1,1,1\n", 3, 4, "3 fields", "4"),
    (AZURE.splitlines()[0], None, None, "at least one row", "no row"),
    (AZURE.replace(",1,1", ",0,0"), None, None, "at least one request with a prompt", "none"),
    ("Time,TIMESTAMP\n2024-05-12 00:00:00,4\n", None, None, "at least two rows", "one"),
    ("Time,TIMESTAMP\n2024-05-12 00:00:10,4\n2024-05-12 00:00:00,4\n", 3, 1, "ascend", "10 s back"),
    ("t_s,rps\n0,1\n0,2\n", 3, 1, "ascend", "the same time again"),
    ("t_s,rps\n0,1\n600,1\n1500,1\n", 4, 1, "multiples of 600 s", "1500 s"),
    ("t_s,rps\n0,0\n600,0\n", None, None, "a rate above 0", "none"),
    ("t_s,rps\n0,1\n600,inf\n", 3, 2, "a number from 0 up in rps", "'inf'"),
    (BURSTGPT + "5,ChatGPT,472,,490,API log\n", 2, 4, "in Response tokens", "''"),
    (MOONCAKE + '{"timestamp": 1, "input_length": 9', 2, 35, "JSON", "delimiter"),
    (MOONCAKE + "[1]\n", 2, 1, "a JSON object", "[1]"),
    (MOONCAKE + '{"timestamp": 1, "input_length": 9}\n', 2, 35, "output_length", "no such field"),
    (MOONCAKE.replace("9", "true"), 1, 34, "a whole number from 0 up in input_length", "True"),
    (MOONCAKE.replace("[1]", "[[1]]"), 1, 69, "a list of hashes", "[[1]]"),
    ("a,b\n1,2\n", 1, None, "a trace: Azure 2023", "'a,b'"),
    ("", 1, None, "a trace", "an empty file"),
    ("time,requests\n1700000000,1\n1700000060,1 r/s\n", 3, 2, "a number or nothing", "'1 r/s'"),
    ("time,requests\n1,1\n2,1\n3.5,1\n", None, None, "every 1 s", "one at 3.5, 0.5 s beside it"),
    ("time,requests\n1,1\n1.001,1\n9e9,1\n", None, None, "times within 20000 s", "another unit"),
    ("t_s,rps\n0,1\n0.001,2\n1e9,2\n", None, None, "times within 20000 s", "1e+09 s"),
    (BURSTGPT + "5,x,4,4,8,y\n1e14,x,4,4,8,y\n", None, None, "times within 1e+08 s", "1e+14 s"),
    ("time,requests\n1,\n2,\n", None, None, "requests or completions", "no sample"),
    ('{"status": "error", "error": "bad query"}', None, None, "status success", "bad query"),
    ('{"status": "success", "data": {"resultType": "vector"}}', None, None, "a matrix", "'vector'"),
    (MATRIX.replace("...", '{"metric": {}, "values": [[0, "1"], [60, "-1"]]}'), None, None,
     "rates of requests from 0 up", "-1 at 60"),
    (MATRIX.replace("...", ""), None, None, "samples", "matched nothing"),
    (MATRIX.replace("...", '{"values": 4}'), None, None, "series of requests", "4"),
    ('{\n"status": "success",\n]', 3, 1, "JSON", "double quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "expected", "found"), CASES)
def test_the_error_names_the_place_what_was_expected_and_what_was_there(
    tmp_path: Path, text: str, line: int | None, column: int | None, expected: str, found: str
) -> None:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError) as caught:
        load(path)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert expected in error.expected
    assert found in error.found
    where = ":".join(str(part) for part in (path, line, column) if part is not None)
    assert str(error).startswith(f"{where}: expected ")
    assert "\n" not in str(error)


def test_a_packed_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((AZURE * 400).encode())[:-20])
    with pytest.raises(TraceError, match="a complete gzip file, found one that is cut off"):
        load(path)


@pytest.mark.parametrize("content", [b"\x1f\x8bnonsense", b"TIMESTAMP,\xff\xfe\n", b"\x00\x01"])
def test_bytes_that_are_no_trace(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(TraceError):
        load(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_bytes_that_are_no_text_are_found_however_far_down(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "trace"
    rows = AZURE + "2023-11-16 18:17:03,1,1\n" * 5000
    path.write_bytes(pack(rows.encode() + "2023-11-16 18:17:03,é1,".encode() + b"\xff\n"))
    with pytest.raises(TraceError) as caught:
        load(path)
    error = caught.value
    assert (error.line, error.column, error.found) == (5003, 24, "byte 0xff")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="a file that can be read, found No such file"):
        load(tmp_path / "none.csv")
    with pytest.raises(TraceError, match="a file that can be read, found Is a directory"):
        load(tmp_path)


HEADERS = [
    AZURE.splitlines()[0], "Time,TIMESTAMP", "t_s,rps", BURSTGPT.strip(), "time,requests,x",
    MOONCAKE.strip(), '{"status": "success", "data":',
]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.sampled_from(HEADERS), rest=st.text(st.characters(codec="utf-8"), max_size=60))
def test_anything_is_a_trace_or_a_trace_error(tmp_path: Path, header: str, rest: str) -> None:
    path = tmp_path / "trace"
    path.write_text(f"{header}\n{rest}", encoding="utf-8", newline="")
    try:
        trace = load(path)
    except TraceError:
        return
    assert (trace.requests_per_second >= 0).all()
    assert (trace.lengths.prompt_tokens >= 1).all()
