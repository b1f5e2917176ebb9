"""``spillway plan``: every answer as a table and as JSON, and what is said of bad input."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from spillway.sim.report.page import Plot

API = ["--api-input", "0.30", "--api-output", "0.60"]
OWN = ["--replica-hour", "3.5", "--rps-per-replica", "6"]
REQUEST = ["--input-tokens", "1500", "--output-tokens", "300"]
TCO = ["tco", *API, *OWN, *REQUEST, "--p95-rps", "40"]
CROSSOVER = ["crossover", *API, *OWN, *REQUEST]
AUTOSCALING = [
    "autoscaling", "--peak-rps", "200", "--mean-rps", "40", "--rps-per-replica", "100",
    "--replica-hour", "3.06",
]  # fmt: skip
AGENTS = [
    "agents",
    "--calls",
    "25",
    "--api-input",
    "3",
    "--api-output",
    "15",
    "--api-cached",
    "0.3",
]
RAG = ["rag", *API, "--shared-tokens", "1000", "--api-cached", "0.03"]
LEVERS = [
    "levers", "--input-tokens", "3500", "--output-tokens", "800", "--api-input", "30",
    "--api-output", "60", "--monthly-usd", "80000",
]  # fmt: skip
RIGHTSIZING = [
    "rightsizing", "--model", "llama-3.1-8b", "--gpu", "h100=3.5", "--gpu", "l40s=1.1",
    "--input-tokens", "1500", "--output-tokens", "300", "--quality", "fp8=0.99",
]  # fmt: skip
COMMANDS = [TCO, CROSSOVER, AUTOSCALING, AGENTS, RAG, LEVERS, RIGHTSIZING]
PLOTTED = [CROSSOVER, AUTOSCALING, AGENTS, RAG, LEVERS, RIGHTSIZING]


def plan(*args: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *map(str, args)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def answer(*args: str | Path) -> dict[str, Any]:
    code, output = plan(*args, "--json")
    assert code == ExitCode.OK, output
    found = json.loads(output)
    assert isinstance(found, dict)
    return found


def test_the_classic_autoscaling_example() -> None:
    found = answer(*AUTOSCALING)
    assert found["fixed_monthly"] == 6701.40
    assert found["autoscaled_monthly"] == 3395.38
    assert found["savings_fraction"] == pytest.approx(0.49, abs=0.005)
    assert "$3,395.38" in plan(*AUTOSCALING)[1]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_answers_a_person_and_a_script(command: list[str]) -> None:
    code, output = plan(*command)
    assert code == ExitCode.OK, output
    assert len(output.splitlines()) > 3
    assert answer(*command)


def test_tco_compares_the_ways_from_four_numbers() -> None:
    found = answer(*TCO, "--retry-rate", "0.05")
    ways = {bill["way"]: bill for bill in found["bills"]}
    assert ways["API alone"]["burst_share"] == 1
    assert ways["marginal rule, fixed"]["total_monthly"] == min(
        bill["total_monthly"] for way, bill in ways.items() if "following" not in way
    )
    assert found["load"]["attempts_per_request"] == pytest.approx(1 / 0.95, rel=1e-4)
    # A replica-hour at $3.50 over $0.63 a thousand requests.
    assert found["api_usd_per_request"] == pytest.approx(0.00063)


def test_context_lengths_set_the_mean_prompt() -> None:
    spread = ["--contexts", "1000:0.5,3000:0.5"]
    command = ["tco", *API, *OWN, "--output-tokens", "300", "--p95-rps", "40", *spread]
    found = answer(*command)
    assert found["load"]["input_tokens"] == 2000
    # Three times the tokens of the other half, and more than that of the work.
    short, long = found["contexts"]
    assert long["prompt_tokens"] == pytest.approx(0.75)
    assert long["prefill_work"] / short["prefill_work"] > 3


def test_a_trace_stands_in_for_rate_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    rows = (f"2023-11-16 18:{m:02}:{s:02}.0,1000,100\n" for m in range(20) for s in range(0, 60, 2))
    path.write_text(head + "".join(rows))
    found = answer("tco", *API, *OWN, "--trace", path)
    assert found["load"]["mean_rps"] == pytest.approx(0.5, rel=0.05)
    assert found["load"]["input_tokens"] == 1000


def test_the_sources_80k_example() -> None:
    found = answer(*LEVERS)
    assert found["usd_per_request"] == pytest.approx(0.153)
    assert found["requests_per_month"] == pytest.approx(522_875.8)
    assert found["monthly_usd"] == 80_000


def test_an_agents_task_on_own_gpus_is_cheaper_where_their_prefix_cache_answers() -> None:
    own = answer(*AGENTS, "--gpu", "h100=3.5")["own"]
    assert own["gpu"] == "h100=3.5"
    assert 0 < own["usd_per_task_cached"] < own["usd_per_task"] / 2
    assert "own" not in answer(*AGENTS)
    late = answer(*AGENTS, "--gpu", "t4=0.3", "--model", "llama-70b")["own"]
    assert late["usd_per_task"] is None


def test_an_agents_task_grows_with_the_square_of_its_calls() -> None:
    found = answer(*AGENTS)
    assert found["prompt_tokens"] == 25 * 3000 + 1000 * 300
    assert found["usd_per_task"] > 4 * found["usd_per_task_cached"]


def fetched(page: str) -> list[str]:
    """What a browser would fetch for a page; what stands in its scripts is none of that."""
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in {"script", "link", "img", "iframe"}:
                found.extend(value or "" for name, value in attrs if name in {"src", "href"})

    Tags().feed(page)
    return [address for address in found if not address.startswith("data:")]


def test_plots_are_one_page_that_needs_no_network(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    code, output = plan(*TCO, "--plot", page)
    assert code == ExitCode.OK, output
    text = page.read_text(encoding="utf-8")
    assert text.lower().startswith("<!doctype html>")
    assert fetched(text) == []
    # The bills, the sizes of a fleet, the crossover and its sensitivity.
    assert [f'figures["plot-{n}"]' in text for n in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("command", PLOTTED, ids=lambda command: command[0])
def test_every_plot_has_something_drawn(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Plot] = []

    def render(_title: str, _subtitle: str, _tiles: object, parts: list[Plot]) -> str:
        drawn.extend(parts)
        return ""

    monkeypatch.setattr("spillway.sim.report.page.render_page", render)
    assert plan(*command, "--plot", tmp_path / "x.html")[0] == ExitCode.OK
    assert drawn
    assert all(len(plot.figure.data) > 0 for plot in drawn)


def test_without_plotly_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [n for n in sys.modules if n.startswith(("plotly", "spillway.sim.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, output = plan(*AUTOSCALING, "--plot", tmp_path / "x.html")
    assert code == ExitCode.USAGE
    assert "pip install 'spillway[sim]'" in output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([*TCO, "--retry-rate", "1"], "retry rate must be at least 0 and below 1, got 1"),
        ([*TCO, "--contexts", "a:b"], "--contexts: must be pairs such as 1000:0.7,8000:0.3"),
        ([*TCO, "--contexts", "1000:0.5"], "shares must sum up to 1"),
        ([*TCO, "--rps-per-replica", "0"], "requests per second of a replica must be above 0"),
        ([*TCO[:-2], "--trace", "nowhere.csv"], "nowhere.csv"),
        ([*TCO, "--trace", "nowhere.csv"], "--p95-rps, or a recorded one with --trace"),
        (["tco", *API, *OWN, *REQUEST], "--p95-rps"),
        (LEVERS[:-2], "--monthly-usd or --requests-per-month"),
        ([*RIGHTSIZING, "--gpu", "abacus=1"], "--gpu: must be one of"),
        ([*RIGHTSIZING, "--gpu", "h100"], "--gpu: must be a name and a number such as h100=3.5"),
        ([*RIGHTSIZING, "--quality", "fp7=1"], "--quality: must be of fp16, fp8, int4, got fp7"),
        ([*RIGHTSIZING, "--shape", "1,2"], "--shape: must be four numbers"),
        ([*RIGHTSIZING, "--model", "gpt"], "--model: must name a known model and its size"),
        ([*AGENTS, "--model", "gpt"], "--model: must name a known model and its size"),
        ([*AGENTS, "--gpu", "abacus=1"], "--gpu: must be one of"),
        ([*AGENTS, "--calls", "0"], "calls a task must be at least 1"),
        (["prices"], "--catalog, --price-map, or both"),
    ],
)
def test_bad_input_is_code_2_and_named(command: list[str], said: str) -> None:
    code, output = plan(*command)
    assert code == ExitCode.USAGE, output
    assert said in output


def test_a_model_that_nobody_knows_can_be_given_by_its_shape() -> None:
    shaped = [*RIGHTSIZING[:2], "mine", *RIGHTSIZING[3:], "--shape", "8.03,32,4096,1024"]
    assert answer(*shaped) == answer(*RIGHTSIZING)


def test_price_files_are_shown_and_doubted(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text('accelerators: {H100: {onDemand: "3.50", spot: "3500"}}')
    code, output = plan("prices", "--catalog", catalog, "--json")
    assert code == ExitCode.INVALID
    doubts = {gpu["bought"]: gpu["doubt"] for gpu in json.loads(output)["gpus"]}
    assert doubts["OnDemand"] is None
    assert "$0.01 to $100" in doubts["Spot"]
    catalog.write_text("accelerators: {H100: {onDemand: dear}}")
    code, output = plan("prices", "--catalog", catalog)
    assert code == ExitCode.INVALID
    assert f"{catalog}: accelerators.H100.onDemand must be" in output.replace("\n", "")


def test_a_price_map_can_be_searched(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    costs = {"input_cost_per_token": 1e-7, "output_cost_per_token": 2e-7}
    path.write_text(
        json.dumps({"a/llama": costs, "b/other": costs, "free": dict.fromkeys(costs, 0)})
    )
    assert len(answer("prices", "--price-map", path)["models"]) == 3
    (llama,) = answer("prices", "--price-map", path, "--model", "LLAMA")["models"]
    assert llama["input_per_million"] == pytest.approx(0.1)
