"""The help: every command has examples that it takes, and nothing of it is lost on the way."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import spillway
from spillway.cli import app, kubectl_complete
from spillway.cli.exit_codes import ExitCode
from spillway.cli.lazy import loaded
from spillway.cli.manual import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
#: Examples that need neither a cluster nor a file of the user's nor a program beside us.
RUN_HERE = [
    line
    for name, examples in EXAMPLES.items()
    for _, line in examples
    if (name.startswith("plan ") and "prices" not in name)
    or line in {"spillway crd --json", "spillway validate --json manifests/samples/minimal.yaml"}
]


def _below(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(loaded(inner), f"{path} {name}".strip())


@cache
def commands() -> tuple[tuple[str, Any], ...]:
    """Every command that does something, by its words."""
    return tuple(_below(get_command(app)))


def own_part(line: str) -> list[str]:
    """The words of the part of a command line that is ours, without program and variables."""
    words = shlex.split(line.replace("<(", "").replace(")", "") if "<(" in line else line)
    at = words.index("spillway")
    own = words[at + 1 :]
    ends = [own.index(end) for end in ("|", ">") if end in own]
    return own[: min(ends, default=len(own))]


def test_every_command_has_examples_and_no_example_is_of_another() -> None:
    assert {path for path, _ in commands()} == set(EXAMPLES)


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, found in EXAMPLES.items() for _, line in found]
)
def test_examples_are_what_the_command_takes(name: str, line: str) -> None:
    words = own_part(line)
    path = name.split()
    assert words[: len(path)] == path
    command = dict(commands())[name]
    # Parses flags, kinds and required arguments; nothing runs.
    command.make_context(name, words[len(path) :])


@pytest.mark.parametrize("line", RUN_HERE)
def test_examples_run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, own_part(line))
    assert result.exit_code == ExitCode.OK, result.output
    assert result.output


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_help_ends_with_examples_and_exit_codes(path: str) -> None:
    result = CliRunner().invoke(app, [*path.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == ExitCode.OK
    for does, line in EXAMPLES[path]:
        assert does in result.output
        assert line in result.output
    assert "Exit codes: 0 done" in result.output


def test_no_help_text_has_a_bracket_that_would_be_taken_for_markup() -> None:
    texts = [
        (path, parameter.name, parameter.help)
        for path, command in commands()
        for parameter in command.params
        if getattr(parameter, "help", None)
    ]
    assert texts
    assert [where for *where, text in texts if "[" in text] == []


def test_flags_of_one_name_mean_the_same_everywhere() -> None:
    short: dict[str, set[str]] = {}
    for _, command in commands():
        for parameter in command.params:
            letters = [o for o in parameter.opts if re.fullmatch(r"-\w", o)]
            for letter in letters:
                short.setdefault(letter, set()).add(parameter.opts[0])
    assert {letter: names for letter, names in short.items() if len(names) > 1} == {}
    # What `edge` prints is JSON by itself.
    silent = {"run", "completion", "edge"}
    without = {
        path for path, command in commands() if not any("--json" in p.opts for p in command.params)
    }
    assert without == silent


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"spillway {spillway.__version__}\n"


@pytest.mark.parametrize(
    ("where", "variables", "coloured"),
    [("terminal", {}, True), ("terminal", {"NO_COLOR": "1"}, False), ("file", {}, False)],
)
def test_colours_are_for_terminals_alone(
    where: str,
    variables: dict[str, str],
    *,
    coloured: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    leader, follower = pty.openpty()
    target = follower if where == "terminal" else str(tmp_path / "output")
    with open(target, "w", encoding="utf-8") as out:  # noqa: PTH123 - a descriptor has no path
        monkeypatch.setattr(sys, "stdout", out)
        app(["validate", str(ROOT / "manifests/samples/minimal.yaml")], standalone_mode=False)
        out.flush()
        written = os.read(leader, 65536) if where == "terminal" else Path(out.name).read_bytes()
    os.close(leader)
    assert b"valid" in written
    assert bool(re.search(rb"\x1b\[[\d;]*3[1-6]", written)) is coloured


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_prints_a_script_that_asks_this_program(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SPILLWAY_COMPLETE", "")
    result = CliRunner().invoke(app, ["completion", shell])
    assert result.exit_code == ExitCode.OK
    assert f"complete_{shell}" in result.output
    assert "spillway" in result.output


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        (["t"], "top", "run"),
        (["plan", "cross"], "crossover", "tco"),
        (["explain", "--name"], "--namespace", "--file"),
        (["completion", ""], "fish", "top"),
    ],
)
def test_kubectl_is_told_what_may_come_next(
    words: list[str],
    offered: str,
    not_offered: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("_SPILLWAY_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-spillway", *words])
    kubectl_complete()
    *candidates, directive = capsys.readouterr().out.splitlines()
    assert directive == ":0"
    assert offered in candidates
    assert not_offered not in candidates


def test_crd_is_the_same_as_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["crd", "--json"]).output)
    assert found["metadata"]["name"] == "inferencepools.spillway.dev"
