"""``spillway simulate``: a table, JSON, a report, and one clear line for what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from spillway.cli import app, extras
from spillway.cli.exit_codes import ExitCode
from spillway.cli.worlds import WorldOptions, world
from tests.unit.controller.fakes import pool_object

if TYPE_CHECKING:
    from pathlib import Path

#: Twenty minutes, one rival: what is tested here is the command.
QUICK = ("--days", "0.015", "--replicas", "3", "--compare", "keda-rate", "--jobs", "1")


def simulate(*args: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["simulate", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_table_has_spillway_the_rival_both_ways_and_says_what_a_replica_is() -> None:
    code, out, _ = simulate(*QUICK, "--no-optimum")
    assert code == ExitCode.OK
    lines = out.splitlines()
    assert "worth 3.0 replicas llama-3.1-8b-h100 at $3.5/h; API $0.3/0.6" in lines[0]
    assert lines[1].startswith("Made up, seed 0")
    labels = [line.split("  ")[0].strip() for line in lines]
    assert {"spillway", "keda-rate", "keda-rate + burst"} <= set(labels)


@pytest.mark.slow
def test_json_of_a_trace_file(tmp_path: Path) -> None:
    trace = tmp_path / "export.csv"
    rows = "\n".join(f"{60 * i},{20 + i % 7}" for i in range(30))
    trace.write_text(f"time,requests\n{rows}\n")
    code, out, _ = simulate(
        trace, "--compare", "none", "--no-optimum", "--json", "--jobs", "1", "--gpu-price", "2",
        "--floor", "2", "--max", "9",
    )  # fmt: skip
    assert code == ExitCode.OK
    document = json.loads(out)
    assert document["trace"]["name"] == "export"
    assert document["conditions"]["gpuUsdPerReplicaHour"] == 2.0
    (entry,) = document["entries"]
    assert entry["name"] == "spillway"
    assert entry["usd"] == pytest.approx(entry["gpuUsd"] + entry["apiUsd"], abs=1e-3)
    # Two replicas at least for half an hour at $2.
    assert entry["gpuUsd"] >= 2.0
    assert document["optimum"] is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--compare", "hpq"), "a rival must be one of hpa-util, "),
        (("--scenario", "night"), "scenario must be one of day, "),
        (("--mix", "poems"), "mix must be one of chat, "),
        (("--days", "0"), "days must be a number above 0, got 0"),
        (("--days", "0.0005"), "for an optimum a load must last 60 s at least, got "),
        (("--replicas", "-1"), "replicas must be a number above 0, got -1"),
        (("--floor", "9", "--max", "4"), "floor must be from 1 to max (4), got 9"),
        (("--attainment", "1.5"), "attainment must be above 0 and below 1, got 1.5"),
        (("--api-price", "cheap"), "--api-price must be US dollars a million prompt and output"),
        (("--lead", "soon"), '--lead must be a duration such as "2s"'),
        (("--ttft", "0s"), "--ttft must be longer than 0s"),
        (("--tpot", "1ms"), "meets the latency targets at no rate"),
        (("--profile", "b200"), "profile must be one of llama-3.1-8b-h100, "),
        (("--report", "/nowhere/at/all.html"), "--report: no folder /nowhere/at"),
        (("none.csv",), "none.csv: expected a file that can be read, found No such file"),
        (("--mix", "chat", "--lengths", "x.csv"), "give --mix or --lengths, not both"),
        (("x.csv", "--days", "1"), "--days is for made-up load"),
        (("--pool", "none.yaml"), "none.yaml: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(args: tuple[str, ...], says: str) -> None:
    code, out, err = simulate(*args)
    assert code == ExitCode.USAGE
    assert out == ""
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_without_numpy_one_line_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _module: None)
    code, _, err = simulate("--report", "x.html")
    assert code == ExitCode.USAGE
    assert err == (
        "error: spillway simulate needs numpy and plotly, which the operator goes without; install "
        "them with: pip install 'spillway[sim]'\n"
    )


def test_the_pool_gives_the_world_and_options_go_before_it(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    pool = pool_object("a", replicas={"floor": 3, "max": 7}, scaling={"persistence": "1m"})
    path.write_text(yaml.safe_dump_all([{"kind": "Service"}, pool]))
    found = world(WorldOptions(pool=path, floor=4, lead="90s", gpu_price=1.25))
    assert (found.conditions.floor, found.conditions.max) == (4, 7)
    assert found.conditions.lead.median_seconds == 90
    assert found.conditions.gpu_usd_per_replica_hour == 1.25
    assert found.fields == {"scaling": {"persistence": "1m"}}
    assert found.identity is not None
    assert found.identity.name == "a"


def test_a_pool_that_is_not_valid_is_code_5(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(yaml.safe_dump(pool_object("a", replicas={"floor": 5, "max": 2})))
    code, _, err = simulate("--pool", path)
    assert code == ExitCode.INVALID
    assert "spec.replicas.floor must be at most replicas.max, got 5" in err
    path.write_text("a: [")
    code, _, err = simulate("--pool", path)
    assert code == ExitCode.USAGE
    assert f"{path}: not YAML" in err
    path.write_text(yaml.safe_dump_all([pool_object("a"), pool_object("b")]))
    code, _, err = simulate("--pool", path)
    assert code == ExitCode.USAGE
    assert "must hold one InferencePool, got 2" in err
