"""``spillway run``: every way to fail is one line that says what to do, and an exit code."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from spillway.adapters.kube.errors import ConnectError
from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from spillway.controller.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Invoke = "Callable[..., tuple[int, str]]"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and the logs of this process stay as they are."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.setattr("spillway.adapters.logs.configure", lambda _: None)


def invoke(*args: str, **variables: str) -> tuple[int, str]:
    """Exit code and what was said."""
    env = {f"{PREFIX}{name}": value for name, value in variables.items()}
    result = CliRunner().invoke(app, ["run", *args], env=env)
    return result.exit_code, result.output


def serving(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Settings], Any]) -> list[Settings]:
    """`serve` replaced; the settings that it was given."""
    given: list[Settings] = []

    async def serve(settings: Settings) -> None:
        given.append(settings)
        outcome(settings)

    monkeypatch.setattr("spillway.controller.operator.serve", serve)
    return given


def fails(error: Exception) -> Callable[[Settings], Any]:
    def outcome(_: Settings) -> None:
        raise error

    return outcome


def test_flags_become_settings_and_the_end_is_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    given = serving(monkeypatch, lambda _: None)
    code, _ = invoke("--http-port", "0", "--read-only", "--prometheus-url", "http://p:9090")
    assert code == ExitCode.OK
    (settings,) = given
    assert (settings.http_port, settings.read_only) == (0, True)
    assert settings.prometheus_url == "http://p:9090"


def test_a_bad_variable_is_code_2_and_named() -> None:
    code, output = invoke(LOG_LEVEL="LOUD")
    assert code == ExitCode.USAGE
    assert "SPILLWAY_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'" in output


def test_a_variable_that_is_not_json_is_code_2_and_named() -> None:
    code, output = invoke(WATCH_NAMESPACES="one,two")
    assert code == ExitCode.USAGE
    assert 'SPILLWAY_WATCH_NAMESPACES: must be JSON, a list such as ["a", "b"]' in output


def test_a_bad_flag_is_code_2_and_named() -> None:
    code, output = invoke("--http-port", "many")
    assert code == ExitCode.USAGE
    assert "http-port" in output


def test_a_kubeconfig_that_is_not_there_is_code_2(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    code, output = invoke("--kubeconfig", str(missing))
    assert code == ExitCode.USAGE
    assert f"SPILLWAY_KUBECONFIG: no file at {missing}" in output


def test_a_kubeconfig_that_says_nothing_is_code_2(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    code, output = invoke("--kubeconfig", str(path), HTTP_HOST="127.0.0.1", HTTP_PORT="0")
    assert code == ExitCode.USAGE
    assert str(path) in output


def test_a_server_that_can_not_be_reached_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    serving(monkeypatch, fails(ConnectError("https://x can't be reached; is it up?")))
    assert invoke() == (ExitCode.UNREACHABLE, "error: https://x can't be reached; is it up?\n")


def test_a_taken_port_is_code_2_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = invoke("--http-port", str(port), "--kubeconfig", str(path),
                              HTTP_HOST="127.0.0.1")  # fmt: skip
    assert code == ExitCode.USAGE
    assert f"can't listen on 127.0.0.1:{port}" in output


def test_what_nobody_foresaw_is_code_1_without_a_wall_of_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving(monkeypatch, fails(ConnectionResetError("odd")))
    code, output = invoke()
    assert code == ExitCode.FAILED
    assert "can't listen" not in output, "not every OSError is the port's"


def test_no_secret_is_printed() -> None:
    headers = '{"Authorization": {"x": "hush"}}'
    code, output = invoke(PROMETHEUS_HEADERS=headers)
    assert code == ExitCode.USAGE
    assert "hush" not in output
