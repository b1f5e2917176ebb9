"""The comparison with a real GPU: its fit, and the table beside what was recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.bench_step_time import RECORDINGS, compare, decode_terms, fit, main, seconds_of


def test_the_fit_finds_the_costs_that_made_the_steps() -> None:
    rows = [
        {"batch": float(batch), "context": float(context)}
        for batch in (1, 16, 256)
        for context in (256, 2048)
    ]
    costs = np.array([7e-3, 5e-6, 4e-8])
    assert fit(decode_terms(rows), decode_terms(rows) @ costs) == pytest.approx(costs)


def test_no_cost_is_below_nothing() -> None:
    terms = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    found = fit(terms, np.array([3.0, 2.0, 1.0]))
    assert found.min() >= 0
    assert found[1] == 0


def test_the_recordings_are_of_the_table_s_gpus_and_repeat_themselves() -> None:
    paths = sorted(RECORDINGS.glob("*.json"))
    assert [path.stem for path in paths] == ["h100", "h100_2", "h200"]
    for path in paths:
        recording = json.loads(path.read_text())
        assert "not in the built-in table" not in "".join(compare(recording))
        steps = recording["decode"] + recording["prefill"]
        assert all(step["ms_min"] <= step["ms"] <= step["ms_max"] for step in steps)
        assert seconds_of(recording["decode"]).min() > 0


def test_it_prints_a_table_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.count("| c2, token of context (ns) |") == 3
