"""docs/concepts/economics.md says what the commands print today, and its plots are fresh."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spillway.cli import app
from tools import gen_economics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "economics.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def words(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[3])
def test_what_stands_below_a_command_is_what_it_prints(block: str) -> None:
    command, *lines = block.replace("\\\n", " ").splitlines()
    assert command.startswith("$ spillway plan ")
    arguments = shlex.split(command)[2:]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    printed = {words(line) for line in result.output.splitlines()}
    assert [line for line in map(words, lines) if line not in printed] == []


def test_its_plots_are_what_the_code_draws() -> None:
    assert gen_economics.main(["--check"]) == 0


def test_a_stale_plot_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gen_economics, "ROOT", tmp_path)
    monkeypatch.setattr(gen_economics, "IMAGES", tmp_path / "images")
    assert gen_economics.main(["--check"]) == 1
    assert "economics-fleet.svg is stale" in capsys.readouterr().err
    assert gen_economics.main([]) == 0
    assert gen_economics.main(["--check"]) == 0
