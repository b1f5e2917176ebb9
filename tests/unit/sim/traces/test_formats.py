"""Every format gives the load that a person reads in its file."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spillway.sim.trace import Lengths
from spillway.sim.traces import Gaps, load
from spillway.sim.traces.mooncake import PrefixCache
from spillway.sim.traces.mooncake import load as load_mooncake

if TYPE_CHECKING:
    from pathlib import Path

    from spillway.sim.trace import Trace

SHORT = Lengths.of(np.array([7]), np.array([3]))


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def requests_of(trace: Trace) -> list[tuple[float, int, int, int]]:
    assert trace.requests is not None
    lengths = trace.requests.lengths
    return [
        (round(float(at), 6), int(prompt), int(output), int(cached))
        for at, prompt, output, cached in zip(
            trace.requests.arrived_at,
            lengths.prompt_tokens,
            lengths.output_tokens,
            lengths.cached_tokens,
            strict=True,
        )
    ]


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:59.9799600,4808,10
2023-11-17 00:00:08.9799600,3180,8
2023-11-17 00:00:00.4799600,110,27
2023-11-17 00:00:01.0000000,110,0
"""


def test_azure_requests_in_order_of_arrival_without_the_failed_one(tmp_path: Path) -> None:
    trace = load(write(tmp_path, AZURE))
    assert requests_of(trace) == [(0.0, 4808, 10, 0), (0.5, 110, 27, 0), (9.0, 3180, 8, 0)]
    # Two in the first 5 s and one in the next.
    assert trace.requests_per_second.tolist() == [0.4, 0.2]
    assert "1 of 4 failed" in trace.source


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "packed.csv"
    path.write_bytes(gzip.compress(AZURE.encode()))
    assert len(requests_of(load(path))) == 3


def test_azure_counts_begin_and_end_with_half_a_bin(tmp_path: Path) -> None:
    rows = ["2024-05-12 00:00:00,100", "2024-05-12 00:00:10,200", "2024-05-12 00:00:20,150"]
    text = "Time,TIMESTAMP\n" + "\n".join(rows) + "\n"
    trace = load(write(tmp_path, text), lengths=SHORT)
    assert trace.bin_seconds == 10
    assert trace.requests_per_second.tolist() == [20.0, 20.0, 15.0]
    assert trace.requests is None
    assert trace.lengths is SHORT
    midnight = "Time,TIMESTAMP\n2024-05-11 23:59:50,200\n2024-05-12 00:00:00,100\n"
    trace = load(write(tmp_path, midnight))
    assert "mix chat" in trace.source


def test_azure_counts_end_at_midnight_with_half_a_bin(tmp_path: Path) -> None:
    rows = [f"2024-05-12 {hour:02d}:00:00,3600" for hour in range(24)]
    text = "Time,TIMESTAMP\n" + "\n".join([*rows, "2024-05-13 00:00:00,1800"]) + "\n"
    rates = load(write(tmp_path, text)).requests_per_second
    assert rates.tolist() == [2.0, *[1.0] * 24][: len(rates)]


@pytest.mark.parametrize(("gaps", "middle"), [(Gaps.INTERPOLATE, 15.0), (Gaps.KEEP, 0.0)])
def test_a_missing_row_is_interpolated_or_nothing(
    tmp_path: Path, gaps: Gaps, middle: float
) -> None:
    rows = [f"2024-05-12 00:00:{second},{count}" for second, count in
            (("00", 50), ("10", 100), ("30", 200), ("40", 200))]  # fmt: skip
    trace = load(write(tmp_path, "Time,TIMESTAMP\n" + "\n".join(rows)), gaps=gaps)
    assert trace.requests_per_second.tolist() == [10.0, 10.0, middle, 20.0, 20.0]
    assert "1 of 5 bins are missing" in trace.source


@pytest.mark.parametrize(
    ("gaps", "middle"), [(Gaps.INTERPOLATE, [20.0, 30.0]), (Gaps.KEEP, [0, 0])]
)
def test_silent_windows_of_servegen_are_interpolated_or_kept(
    tmp_path: Path, gaps: Gaps, middle: list[float]
) -> None:
    text = "t_s,rps\n0,10\n600,0\n1200,0.0\n1800,40\n"
    trace = load(write(tmp_path, text), gaps=gaps)
    assert trace.requests_per_second.tolist() == [10.0, *middle, 40.0]
    assert trace.seconds == 2400
    assert "2 of 4 windows are silent" in trace.source


def test_burstgpt_of_both_releases(tmp_path: Path) -> None:
    first = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "6,GPT-4,100,0,100,API log\n"
        "45,ChatGPT,1087,230,1317,Conversation log\n"
    )
    assert requests_of(load(write(tmp_path, first))) == [(0, 472, 18, 0), (40, 1087, 230, 0)]
    second = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
        "Log Type\n"
        "1,a7,2.5,ChatGPT,10,5,15,Conversation log\n"
        "2,,2.5,GPT-4,20,5,25,API log\n"
        "3,b1,2.5,ChatGPT,30,5,35,Conversation log\n"
        "4,a7,2.5,ChatGPT,40,5,45,Conversation log\n"
    )
    requests = load(write(tmp_path, second)).requests
    assert requests is not None
    one, none, other, again = requests.session.tolist()
    assert none == -1
    assert one == again != other


def test_mooncake_hits_are_the_leading_blocks_seen_before(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1500, "output_length": 52, "hash_ids": [1, 2, 3]},
        # Blocks 1 and 2 again; 3 is known, but follows on another block.
        {"timestamp": 2000, "input_length": 2000, "output_length": 26, "hash_ids": [1, 2, 9, 3]},
        # Everything again: the last token is computed all the same.
        {"timestamp": 3000, "input_length": 1024, "output_length": 4, "hash_ids": [1, 2]},
    ]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "trace.jsonl")
    expected = [(0.0, 1500, 52, 0), (2.0, 2000, 26, 1024), (3.0, 1024, 4, 1023)]
    assert requests_of(load(path)) == expected
    # Two blocks are kept: the last two of the first prompt, so nothing leads the second.
    small = load_mooncake(path, cache_tokens=1024)
    assert [cached for *_, cached in requests_of(small)] == [0, 0, 0]


def test_a_full_cache_forgets_what_was_used_longest_ago() -> None:
    cache = PrefixCache(3)
    assert [cache.take(list(blocks)) for blocks in ("ab", "c", "ab", "d", "c", "ab")] == [
        0, 0, 2, 0, 0, 0,
    ]  # fmt: skip
