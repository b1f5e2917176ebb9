"""``spillway demo``: the demo of the checkout, and one sentence where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

import spillway
from spillway.cli import app, demo
from spillway.cli.exit_codes import ExitCode
from tests.e2e.rig.demo import arguments
from tests.e2e.rig.demo_scenario import MINUTES

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_in_a_checkout_it_becomes_the_rigs_demo_with_the_same_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: ran.append(command))
    monkeypatch.chdir(tmp_path)
    flags = ["--cluster", "current", "--minutes", "3", "--output", "page", "--json"]
    assert CliRunner().invoke(app, ["demo", *flags]).exit_code == ExitCode.OK
    (command,) = ran
    assert command[:3] == [sys.executable, "-m", "tests.e2e.rig.demo"]
    assert Path.cwd() == ROOT
    options = arguments(command[3:])
    assert (options.cluster, options.minutes, options.json) == ("current", 3.0, True)
    assert options.output == tmp_path / "page"


def test_the_demo_takes_as_long_as_make_demo_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: ran.append(command))
    monkeypatch.chdir(ROOT)
    CliRunner().invoke(app, ["demo"])
    options = arguments(ran[0][3:])
    assert (options.minutes, options.cluster) == (MINUTES, "local")


def test_elsewhere_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = tmp_path / "site-packages" / "spillway" / "__init__.py"
    monkeypatch.setattr(spillway, "__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    assert demo.checkout() is None
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == ExitCode.USAGE
    assert "git clone" in result.stderr
    assert "spillway simulate" in result.stderr
