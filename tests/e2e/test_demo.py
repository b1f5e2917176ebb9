"""The demo as somebody runs it: to its end, and broken off at any moment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.rig import binaries, demo, demo_scenario
from tests.e2e.rig.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
MARK = "SPILLWAY_DEMO_UNDER_TEST"


@pytest.fixture(autouse=True)
def _local_alone(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--cluster") != "local":
        pytest.skip("the demo's namespace has a fixed name; two can't share somebody's cluster")


@dataclass
class Run:
    """A demo as a process, whatever it starts marked by a variable that children inherit."""

    process: subprocess.Popen[str]
    mark: str
    output: Path
    scratch: Path
    said: Path

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def wait_said(self, words: str, timeout: float = 120) -> None:
        def look() -> str:
            assert words in self.text() or self.process.poll() is None, self.text()
            return self.text()

        wait_for(f"the demo says {words!r}", look, lambda text: words in text, timeout=timeout)

    def end(self, timeout: float = 60) -> int:
        self.process.wait(timeout)
        return self.process.returncode

    def left(self) -> list[str]:
        """Command lines of what still runs, and files that are still there."""
        found = [str(path) for path in self.scratch.iterdir()]
        for entry in Path("/proc").iterdir():
            try:
                if f"{MARK}={self.mark}" in (entry / "environ").read_text(errors="replace"):
                    found.append((entry / "cmdline").read_text(errors="replace"))
            except OSError:
                continue
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a demo that is ended after the test."""
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        scratch, mark, said = tmp_path / "tmp", uuid.uuid4().hex, tmp_path / "stderr"
        scratch.mkdir()
        with said.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.rig.demo", f"--output={tmp_path / 'out'}",
                 *arguments],
                cwd=ROOT,
                env={**os.environ, MARK: mark, "TMPDIR": str(scratch)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )  # fmt: skip
        run = Run(process, mark, tmp_path / "out", scratch, said)
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.process.terminate()
        run.process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("", 0.3),
        ("", 2.5),
        ("started cluster", 0.0),
        ("started emulator", 0.3),
        ("started prometheus", 1.0),
        ("the operator is ready", 3.0),
    ],
)
def test_interrupted_before_the_workload_it_leaves_nothing(
    start: Callable[..., Run], words: str, seconds: float
) -> None:
    run = start()
    run.wait_said(words)
    time.sleep(seconds)
    run.process.send_signal(signal.SIGINT)
    assert run.end() != 0
    wait_for("nothing is left", run.left, lambda found: not found, timeout=20)
    assert not run.output.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_workload_it_writes_what_it_saw(
    start: Callable[..., Run], number: signal.Signals
) -> None:
    run = start("--json")
    run.wait_said("0:05 steady", timeout=180)
    run.process.send_signal(number)
    time.sleep(0.05)
    run.process.send_signal(number)
    said, _ = run.process.communicate(timeout=60)
    assert run.end() == demo.INTERRUPTED, run.text()
    assert run.left() == []
    summary = json.loads(said)
    assert summary["interrupted"] is True
    assert summary["requests"]["arrived"] > 0
    assert (run.output / "index.html").stat().st_size > 1_000_000


def test_it_runs_to_its_end(start: Callable[..., Run]) -> None:
    run = start("--json", "--minutes=0.5")
    said, _ = run.process.communicate(timeout=240)
    assert run.end() == 0, run.text()
    assert run.left() == []
    summary = json.loads(said)
    requests, usd = summary["requests"], summary["usd"]
    assert summary["interrupted"] is False
    assert requests["lost"] == 0
    assert requests["answered"] == requests["arrived"], "it waits for the last answers"
    # By the servers' own counts, with those that were under way when the workload began.
    under_way = requests["own_gpus"] + requests["paid_api"] - requests["answered"]
    assert 0 <= under_way < 0.3 * requests["arrived"]
    assert sum(summary["answered_by"]["replicas"].values()) == requests["own_gpus"]
    assert summary["answered_by"]["providers"] == {"together": requests["paid_api"]}
    assert usd["total"] == pytest.approx(usd["gpus"] + usd["api"])
    assert usd["gpus"] >= 3 * 3.5 * 0.45 / 60, "two that serve and a warm one for half a minute"
    page = (run.output / "index.html").read_text(encoding="utf-8")
    assert "Spillway: serving/llama-8b" in page
    assert re.search(r"^\d:\d\d spike begins$", run.text(), re.MULTILINE)


def test_without_go_one_message_says_what_to_do(
    start: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("SPILLWAY_RIG_CACHE", str(tmp_path / "cache"))
    run = start()
    assert run.end() == 1
    assert "Go is not on PATH" in run.text()
    assert "make demo CLUSTER=kind" in run.text()
    assert "Traceback" not in run.text()
    assert run.left() == []


def test_an_operator_that_does_not_start_is_told_with_its_last_words(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rig sets what it needs; this one it leaves alone.
    monkeypatch.setenv("SPILLWAY_WRITES_PER_SECOND", "none")
    run = start()
    assert run.end(120) == 1
    assert "operator-a ended with code" in run.text()
    assert "writes_per_second" in run.text().lower()
    assert "Traceback" not in run.text()
    assert run.left() == []


def test_a_cluster_in_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho namespace/serving\n", encoding="utf-8")
    kubectl.chmod(0o755)
    monkeypatch.setattr(binaries, "ensure", lambda *_, **__: {"kubectl": kubectl})
    assert demo.main(["--cluster=current"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "has namespace serving already" in said


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "a while", "1000"])
def test_minutes_out_of_range_are_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.arguments([f"--minutes={minutes}"])
    assert ended.value.code == 2
    assert "--minutes" in capsys.readouterr().err


def test_the_sample_is_taken_as_it_is_but_for_the_edge_and_how_long_burst_carries() -> None:
    scenario = demo_scenario.Scenario.load(14)
    sample = yaml.safe_load(demo_scenario.SAMPLE.read_text(encoding="utf-8"))
    sample["spec"]["burst"]["driver"] = "EdgeEnvoy"
    sample["spec"]["scaling"] = {**sample["spec"].get("scaling", {}), "persistence": "2m"}
    assert scenario.pool == sample
    assert scenario.key == "serving/llama-8b"
    assert scenario.usd_per_replica_hour == 3.5
    assert scenario.targets == {"ttft_seconds": 2.0, "tpot_seconds": 0.06}
    assert scenario.rates[-1][0] == 2 * demo_scenario.RATES[-1][0], "points of time stretch"
