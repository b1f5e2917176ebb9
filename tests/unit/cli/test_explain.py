"""``spillway explain``: from a file, and what it says when it can't."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from tests.unit.controller.fakes import pool_object

if TYPE_CHECKING:
    from pathlib import Path


def explain(*args: object, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *map(str, args)], input=stdin)
    return result.exit_code, result.output


def saved(**changes: Any) -> str:
    status = {"replicas": {"serving": 2, "desired": 2}, "observedGeneration": 1}
    return yaml.safe_dump({**pool_object("chat"), "status": status, **changes})


def test_a_saved_pool_is_explained_without_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(saved())
    code, output = explain("--file", path)
    assert code == ExitCode.OK
    assert "2 serve, 2 asked for" in output


def test_stdin_and_json() -> None:
    code, output = explain("-f", "-", "--json", stdin=saved())
    assert code == ExitCode.OK
    answer = json.loads(output)
    assert answer["pool"].endswith("/chat")
    assert {"topic", "text", "trouble"} == set(answer["lines"][0])
    assert answer["status"]["replicas"]["desired"] == 2


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ((), None, ExitCode.USAGE, "one of the two"),
        (("a", "-f", "b"), None, ExitCode.USAGE, "one of the two"),
        (("-f", "/no/such/file"), None, ExitCode.USAGE, "/no/such/file"),
        (("-f", "-"), "a: [", ExitCode.USAGE, "not YAML"),
        (("-f", "-"), "kind: Pod", ExitCode.USAGE, "must hold one InferencePool"),
        (("-f", "-"), saved(spec={}), ExitCode.INVALID, "spec.modelName"),
        (("-f", "-"), saved(status={"replicas": 3}), ExitCode.INVALID, "status.replicas"),
        (("a", "--kubeconfig", "/no/such"), None, ExitCode.USAGE, "/no/such"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: tuple[str, ...], stdin: str | None, code: ExitCode, says: str
) -> None:
    found, output = explain(*arguments, stdin=stdin)
    assert found == code
    assert says in output
