from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from spillway.sim.report.page import Tile
from tests.e2e.rig.page import clock, figure, render
from tests.e2e.rig.recording import Moment, Phase, Recording, Step, StepKind

pytestmark = pytest.mark.slow

HOSTILE = '</script><script>alert("x")</script> & $ink %{x} <b>'


def moment(at: float, **changes: float) -> Moment:
    values = {
        "arrivals_per_second": 10.0,
        "local_per_second": 8.0,
        "cloud_per_second": 2.0,
        "capacity_per_second": 12.0,
        "serving": 2,
        "warm": 1,
        "starting": 0,
        "draining": 0,
        "desired": 2,
        "queue": 3.0,
        "overflow": 0.2,
        "gpu_per_hour": 10.5,
        "api_per_hour": 1.5,
        **changes,
    }
    return Moment(at=at, **values)  # type: ignore[arg-type]


def recorded(message: str = "Replicas go from 2 to 3.") -> Recording:
    return Recording(
        f"Spillway: {message}",
        (Phase(0, "steady"), Phase(60, "ramp"), Phase(600, "never reached")),
        [moment(float(at)) for at in range(120)],
        [
            Step(30.0, StepKind.DECISION, ("Demand", "Persistence"), message, desired=3),
            Step(31.0, StepKind.ROLE, ("Promoted",), "pod: warm to serving", pod="pod"),
        ],
    )


class Loads(HTMLParser):
    """Collects what a browser would fetch, and checks that tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.fetched += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}
        ]
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def loads(page: str) -> Loads:
    parser = Loads()
    parser.feed(page)
    parser.close()
    return parser


def figure_of(page: str) -> dict[str, object]:
    found = re.search(r'^figures\["plot-0"\] = (.*);$', page, re.MULTILINE)
    assert found is not None
    parsed: dict[str, object] = json.loads(found[1])
    return parsed


def test_the_page_needs_no_network_and_its_tags_are_balanced() -> None:
    found = loads(render(recorded(), "subtitle", [Tile("1", "one", "own")], [("what", "much")]))
    assert found.fetched == []
    assert found.open == []
    assert found.scripts == 2
    page = render(recorded(), "subtitle")
    assert "@import" not in page
    assert "url(http" not in page


def test_hostile_text_stays_text() -> None:
    page = render(recorded(HOSTILE), HOSTILE, [Tile(HOSTILE, HOSTILE)], [(HOSTILE, HOSTILE)])
    found = loads(page)
    assert (found.open, found.scripts) == ([], 2)
    assert "alert(" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL).replace(
        "alert(&quot;", ""
    )


def test_light_and_dark() -> None:
    page = render(recorded(), "subtitle")
    assert "prefers-color-scheme: dark" in page
    assert "color-scheme: light dark" in page


def test_pointing_at_a_decision_tells_its_reasons() -> None:
    data = figure(recorded("because " * 40)).data
    decisions = next(trace for trace in data if trace.name == "decision")
    assert list(decisions.x) == [0.5]
    [text] = decisions.customdata
    assert text.startswith("<b>Demand</b> (Persistence)<br>because")
    assert max(len(line) for line in text.split("<br>")) <= 62


def test_every_part_of_the_workload_that_was_reached_is_named() -> None:
    layout = figure(recorded()).layout
    names = {annotation.text for annotation in layout.annotations}
    assert {"steady", "ramp"} <= names
    assert "never reached" not in names


@pytest.mark.parametrize("moments", [[], [moment(0.0)]])
def test_a_recording_that_had_hardly_begun_is_a_page(moments: list[Moment]) -> None:
    page = render(Recording("t", (Phase(0, "steady"),), moments), "s", peak_fleet=("fleet", 35.0))
    assert loads(page).open == []
    assert figure_of(page)["data"]


def test_the_figure_holds_every_moment() -> None:
    figure_json = figure_of(render(recorded(), "s", peak_fleet=("6 replicas", 21.0)))
    names = [trace["name"] for trace in figure_json["data"]]  # type: ignore[attr-defined]
    assert {"own GPUs", "paid API", "serving", "warm", "starting", "draining"} <= set(names)
    assert "6 replicas" in names


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (9.9, "0:09"), (187, "3:07"), (3600, "60:00"), (-5, "0:00")]
)
def test_a_clock_reads_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text
