"""The report holds every figure, fetches nothing and takes hostile text for text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from spillway.sim.report import figures
from spillway.sim.report import page as page_module
from spillway.sim.report.report import render
from tests.unit.sim import builders

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes of plotly on each page say nothing about the report."""
    monkeypatch.setattr(page_module, "get_plotlyjs", lambda: "/* plotly */")


HOSTILE = '</script><script>alert("x")</script> & $ink %{x} <b>'


class Loads(HTMLParser):
    """What a browser would fetch, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.scripts = 0
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.text += data


def plots(page: str) -> list[dict[str, Any]]:
    found = re.findall(r'^figures\["plot-\d+"\] = (.*);$', page, re.MULTILINE)
    return [json.loads(text) for text in found]


def test_all_parts_are_there_and_need_no_network() -> None:
    remarks = ["LowerBound: no gateway."]
    page = render(builders.study(), title="A day", remarks=remarks)
    found = Loads(page)
    assert found.fetched == []
    assert found.open == []
    assert found.scripts == 2
    assert len(plots(page)) == 6
    for text in ("$10.00", "1.111", "97.00%", "keda-rate + burst", "LowerBound: no gateway."):
        assert text in found.text
    # $10 against the $12 of the one that kept the promise without burst.
    assert "\N{MINUS SIGN}17%" in found.text
    assert "prefers-color-scheme: dark" in page


def test_hostile_text_stays_text() -> None:
    study = builders.study(HOSTILE, optimum=False, worlds=False)
    page = render(study, title=HOSTILE, remarks=[HOSTILE])
    found = Loads(page)
    assert (found.open, found.scripts) == ([], 2)


def test_what_was_not_worked_out_is_left_out() -> None:
    page = render(builders.study(optimum=False, worlds=False), title="A day")
    assert Loads(page).open == []
    assert len(plots(page)) == 3
    without = builders.study(optimum=False)
    assert figures.regret(without) is None
    (ours, *_) = figures.against(without.by_lead, without, "lead", " s").data
    # Dollars where there is nothing to relate them to.
    assert list(ours.y) == [10.0, 10.0]


def test_pointing_at_a_decision_tells_its_reason() -> None:
    study = builders.study("because " * 40)
    way = figures.timeline(study)
    assert way is not None
    (marks,) = [trace for trace in way.data if trace.name == "decision"]
    assert list(marks.x) == [0.5, 0.8333]
    assert marks.customdata[0].startswith("<b>2 to 3 replicas</b><br>because")
    assert max(len(line) for line in marks.customdata[0].split("<br>")) <= 62
    assert list(marks.marker.symbol) == ["triangle-up", "triangle-down"]


def test_without_a_way_there_is_no_timeline() -> None:
    assert figures.timeline(builders.study("")) is None


def test_the_frontier_is_what_nobody_beats_in_both() -> None:
    points = [(0.9, 5.0), (0.95, 7.0), (0.93, 8.0), (0.99, 9.0), (0.99, 10.0)]
    assert figures.pareto(points) == [(0.9, 5.0), (0.95, 7.0), (0.99, 9.0)]


def test_cost_over_the_optimum_of_each_world() -> None:
    study = builders.study()
    plot = figures.against(study.by_lead, study, "lead", " s")
    ours = next(trace for trace in plot.data if trace.name == "spillway")
    assert list(ours.x) == ["60 s", "180 s"]
    assert list(ours.y) == [1.1111, 1.1111]


def test_the_same_name_has_the_same_colour_everywhere() -> None:
    study = builders.study()
    colour = figures.colours(study)["keda-rate"]
    lines = [t for t in figures.against(study.by_lead, study, "", "").data if "keda" in t.name]
    points = [t for t in figures.frontier(study).data if "keda" in t.name]
    assert {t.line.color for t in lines} == {colour}
    assert {t.marker.color for t in points} == {colour}
