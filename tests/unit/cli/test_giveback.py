"""The commands that give back: what they print, and with which code they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from spillway.cli import app, giveback
from spillway.cli.exit_codes import ExitCode
from spillway.controller.giveback import GivenBack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", ["reset-routes", "release"])
def test_a_kubeconfig_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    result = CliRunner().invoke(app, [command, "--kubeconfig", missing])
    assert result.exit_code == ExitCode.USAGE
    assert missing in result.stderr.replace("\n", "")


@pytest.mark.parametrize("command", ["reset-routes", "release"])
def test_a_setting_that_is_wrong_is_named(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_WATCH_NAMESPACES", "serving")
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == ExitCode.USAGE
    assert "SPILLWAY_WATCH_NAMESPACES" in result.stderr


def test_what_was_done_is_told_for_people_and_for_scripts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = GivenBack(routes=["a/route"], kept=["b/route"])
    giveback._tell(done, as_json=False)
    text = capsys.readouterr().out
    assert text == "a/route: weights given back\nb/route: left alone, its value holds\n"
    giveback._tell(GivenBack(), as_json=False)
    assert capsys.readouterr().out == "nothing to give back\n"
    giveback._tell(done, as_json=True)
    assert json.loads(capsys.readouterr().out)["routes"] == ["a/route"]


def test_what_could_not_be_done_ends_with_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        giveback._tell(GivenBack(failures=["pods a/b: may not patch pods"]), as_json=True)
    assert ended.value.exit_code == ExitCode.FAILED
    assert "pods a/b: may not patch pods" in capsys.readouterr().err
