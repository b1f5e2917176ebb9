"""``spillway backtest``: from an export, from Prometheus, and what it could not see."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from tests.unit.controller.fakes import pool_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--compare", "none", "--no-optimum", "--jobs", "1", "--json")
#: What each expression answers, by a series that only it reads; nothing else was recorded.
RATES = {
    "request_success": 10.0,
    "prompt_tokens": 11_000.0,
    "generation_tokens": 2_000.0,
    "count(count": 3.0,
}


class FakePrometheus(BaseHTTPRequestHandler):
    """Answers range queries with constants; a queue that grows and empties is not recorded."""

    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.asked.append(query)
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        steps = int((end - start) / step) + 1
        value = next((v for name, v in RATES.items() if name in query["query"]), None)
        values = [[start + step * i, str(value)] for i in range(steps) if not 5 <= i < 8]
        rows = [] if value is None else [{"metric": {}, "values": values}]
        self._send({"status": "success", "data": {"resultType": "matrix", "result": rows}})

    def _send(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    FakePrometheus.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakePrometheus)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def backtest(*args: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["backtest", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_from_prometheus_it_says_what_it_could_not_see(prometheus: str, tmp_path: Path) -> None:
    manifest, saved = tmp_path / "pool.yaml", tmp_path / "week.json"
    manifest.write_text(yaml.safe_dump(pool_object("chat")))
    code, out, err = backtest(
        "--prometheus-url", prometheus, "--pool", manifest, "--match", 'cluster=o"ne',
        "--since", "30m", "--save", saved, *QUICK,
    )  # fmt: skip
    assert code == ExitCode.OK, err
    document = json.loads(out)
    assert document["trace"]["meanRequestsPerSecond"] == pytest.approx(10)
    kinds = [remark.split(":")[0] for remark in document["remarks"]]
    assert kinds[:4] == ["What ran", "LowerBound", "Missing", "Lengths"]
    # Three engines for 31 minutes.
    assert "What ran: 1.6 replica-hours" in document["remarks"][0]
    assert "1 range without samples" in document["remarks"][2]
    model = pool_object("chat")["spec"]["modelName"]
    engines = [q["query"] for q in FakePrometheus.asked if "request_success" in q["query"]]
    assert f'model_name="{model}"' in engines[0]
    assert 'cluster="o\\"ne"' in engines[0]
    gateways = [q["query"] for q in FakePrometheus.asked if "spillway_gateway" in q["query"]]
    assert 'pool="chat"' in gateways[0]
    # What was saved is replayed to the same result.
    code, out, err = backtest(saved, "--pool", manifest, *QUICK)
    assert code == ExitCode.OK, err
    assert json.loads(out)["entries"] == document["entries"]


def test_more_points_than_prometheus_gives_at_once_are_asked_in_pieces(prometheus: str) -> None:
    code, _, err = backtest(
        "--prometheus-url", prometheus, "--model", "m", "--since", "4h", "--step", "1s", *QUICK,
        "--profile", "nonsense",
    )  # fmt: skip
    assert code == ExitCode.USAGE
    assert "profile must be one of" in err
    assert FakePrometheus.asked == []


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), ExitCode.USAGE, "say which engines: --model, or --pool"),
        (("--model", "m", "--match", "x"), ExitCode.USAGE, "--match must be LABEL=VALUE, got 'x'"),
        (("--model", "m", "--match", "a-b=x"), ExitCode.USAGE, "'a-b' is not a label name"),
        (("--model", "m", "--since", "ages"), ExitCode.USAGE, "--since must be a duration"),
        (("--model", "m", "--since", "1m"), ExitCode.USAGE, "must span two steps"),
        (("--model", "m", "--prometheus-url", "ftp://x"), ExitCode.USAGE, "PROMETHEUS_URL"),
        (
            ("--model", "m", "--prometheus-url", "http://127.0.0.1:9"),
            ExitCode.UNREACHABLE,
            "cannot reach Prometheus at 127.0.0.1",
        ),
        (("none.json",), ExitCode.USAGE, "none.json: expected a file that can be read"),
        (("none.json", "--save", "x"), ExitCode.USAGE, "--save is for what Prometheus answers"),
    ],
)
def test_what_is_wrong_is_said(args: tuple[str, ...], code: int, says: str) -> None:
    found, out, err = backtest(*args)
    assert (found, out) == (code, "")
    assert says in err


def test_a_trace_that_is_no_export_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n")
    code, _, err = backtest(path)
    # Its first column is called like a time, so it is read as one; its others are no requests.
    assert code == ExitCode.USAGE
    assert "samples at two times at least" in err
