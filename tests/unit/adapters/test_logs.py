"""Every log line is one JSON object, whoever writes it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from spillway.adapters import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], level, config = before
    root.setLevel(level)
    structlog.configure(**config)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout is for output, not for logs"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_carries_what_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    structlog.get_logger("spillway.test").info(
        "decision", pool="ns/pool", decision="d1", reason="Demand", desired=3
    )
    (line,) = lines(capsys)
    assert line["event"] == "decision"
    assert (line["pool"], line["decision"], line["reason"]) == ("ns/pool", "d1", "Demand")
    assert (line["level"], line["logger"], line["desired"]) == ("info", "spillway.test", 3)
    assert line["timestamp"].endswith("Z")


def test_other_libraries_lines_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logging.getLogger("kopf.activities").warning("login failed: %s", "why")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"]) == ("login failed: why", "kopf.activities")


def test_an_exception_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    try:
        int("odd")
    except ValueError:
        structlog.get_logger("spillway.test").exception("a pass failed")
    (line,) = lines(capsys)
    assert line["level"] == "error"
    assert "ValueError: invalid literal" in line["exception"]


def test_levels_and_the_noise_of_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    structlog.get_logger("spillway.test").debug("hidden")
    logging.getLogger("kopf.reactor").info("hidden")
    logging.getLogger("aiohttp.access").info("hidden")
    assert lines(capsys) == []
    logs.configure("error")
    structlog.get_logger("spillway.other").warning("hidden")
    assert lines(capsys) == []


def test_odd_values_break_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    structlog.get_logger("spillway.test").info("x", text='a\nb"c\u2028', thing=object())
    (line,) = lines(capsys)
    assert line["text"] == 'a\nb"c\u2028'


def test_lines_of_a_command_are_no_output_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.to_stderr()
    structlog.get_logger("spillway.test").warning("credentials could not be read anew")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "credentials could not be read anew" in captured.err
