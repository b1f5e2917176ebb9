"""Long answers are parsed row by row, and come out as if they had been parsed in one go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillway.adapters.metrics import transport
from spillway.adapters.metrics.transport import parse

ROWS = st.lists(
    st.fixed_dictionaries(
        {"metric": st.dictionaries(st.text(), st.text(), max_size=3), "value": st.just([1, "2"])}
    ),
    max_size=4,
)


def answer(rows: Any, **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": rows}, **more}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@pytest.fixture(autouse=True)
def every_answer_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_SHORT_CHARACTERS", 0)


@given(rows=ROWS, warning=st.text())
@settings(deadline=None)
def test_rows_come_out_the_same(rows: list[Any], warning: str) -> None:
    # Thanos has warnings behind the data, and others have them before.
    behind = answer(rows, warnings=[warning])
    before = {"infos": [warning, '"result":['], **answer(rows)}
    assert parse(compact(behind)) == behind
    assert parse(compact(before)) == before
    assert parse(json.dumps(behind)) == behind


@pytest.mark.parametrize(
    "value",
    [
        {"infos": {"result": [{"a": 1}]}, **answer([{"b": 2}])},
        answer([1, 2]),
        answer(["rows"]),
        answer([[{}]]),
        {"result": [{"a": 1}]},
        [{"result": [{"a": 1}]}],
    ],
)
def test_another_result_than_the_rows_is_not_taken_for_them(value: Any) -> None:
    assert parse(compact(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"data":{"result":[{"a":1}',
        '{"data":{"result":[{"a":1},]}}',
        '{"data":{"result":[{"a":1}]}',
        '{"data":{"result":[{"a":1}{"b":2}]}}',
        '{"data":{"result":[{"a":]}}',
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
