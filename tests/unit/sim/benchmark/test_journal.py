"""A benchmark that was interrupted goes on where it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import spillway
from spillway.sim.benchmark.journal import Journal, JournalError, fingerprint
from spillway.sim.benchmark.records import Record
from spillway.sim.trace import Lengths, Trace

RECORD = Record(
    trace="wave",
    scale=4,
    lead_seconds=60.0,
    price="A",
    drift="",
    who="static",
    burst=True,
    configuration="4",
    attainment=0.99,
    gpu_usd=3.5,
    api_usd=0.1,
    cloud_share=0.02,
    requests=1e4,
    repair_usd=1e-4,
)
WAVE = Trace(
    "wave", "made up", 60.0, np.array([1.0, 2.0]), Lengths.of(np.array([100]), np.array([10]))
)


def test_what_was_done_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, "2 days").add(("a", 1), [RECORD])
    again = Journal(path, "2 days")
    assert again.records(("a", 1)) == [RECORD]
    assert again.records(("b", 1)) is None
    assert Journal(path, "3 days").records(("a", 1)) is None, "another run's"


def test_a_line_that_was_cut_off_is_done_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, "x").add("a", [RECORD])
    with path.open("a") as file:
        file.write('{"what":"x","job":"b","rec')
    journal = Journal(path, "x")
    assert journal.records("a") == [RECORD]
    assert journal.records("b") is None
    journal.add("b", [])
    assert Journal(path, "x").records("b") == []


def test_another_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\nworld\n")
    with pytest.raises(JournalError, match=r"notes\.txt, line 1.*got 'hello'"):
        Journal(path, "x")


def test_another_load_is_another_run() -> None:
    same = fingerprint({"wave": WAVE})
    assert same == fingerprint({"wave": replace(WAVE)})
    longer = replace(WAVE, lengths=Lengths.of(np.array([101]), np.array([10])))
    more = replace(WAVE, requests_per_second=np.array([1.0, 2.1]))
    others = [{"wave": longer}, {"wave": more}, {"tide": WAVE}, {"wave": WAVE, "tide": WAVE}]
    assert len({same, *map(fingerprint, others)}) == 5


def test_other_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint({"wave": WAVE})
    package = tmp_path / "spillway"
    shutil.copytree(Path(spillway.__file__).parent, package)
    monkeypatch.setattr(spillway, "__file__", str(package / "__init__.py"))
    assert fingerprint({"wave": WAVE}) == before, "wherever it lies"
    (package / "core" / "limits.py").write_text("# another policy\n", encoding="utf-8")
    assert fingerprint({"wave": WAVE}) != before
