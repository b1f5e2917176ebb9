"""Commands of the documentation are run, as far as they need neither a cluster nor an account.

Those that need a cluster are run by tests/e2e/test_install.py; `NOT_RUN` says why others are not.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from spillway.cli.lazy import loaded
from spillway.cli.manual import EXAMPLES
from tests.doc_commands import NOT_RUN, ROOT, Kind, commands, spillway_arguments, starts
from tools.helm import render

ALL = commands()
#: test_manual.py runs or parses these already.
EXAMPLE_LINES = {line for found in EXAMPLES.values() for _, line in found}
SPILLWAY = sorted({c.text for c in ALL if c.kind is Kind.SPILLWAY} - EXAMPLE_LINES)


@cache
def root() -> Any:
    """The command spillway."""
    return get_command(app)


def runs_here(text: str) -> bool:
    """Whether a command needs no cluster, no Prometheus and no file of the reader's."""
    own = spillway_arguments(text)
    files = [word for word in own if re.search(r"\.(yaml|json|gz)$", word)]
    offline = own[0] in {"plan", "crd", "completion"} or (own[0] == "validate" and bool(files))
    return (offline or "--help" in own) and all((ROOT / name).exists() for name in files)


def test_commands_are_found_on_every_kind_of_page() -> None:
    pages = {command.page for command in ALL}
    assert {"README.md", "docs/quick-start/kind.md", "docs/how-to/upgrade.md"} <= pages
    assert any("inferencepool.yaml" in command.text for command in ALL)
    multi = [c.text for c in ALL if starts(c.text, "spillway plan crossover")]
    assert all("--rps-per-replica" in text for text in multi), "continued lines are joined"
    assert not [c for c in ALL if "#" in c.text]


def test_every_command_is_known_and_every_reason_is_used() -> None:
    assert [command for command in ALL if command.kind not in Kind] == []
    unused = [start for start in NOT_RUN if not any(starts(c.text, start) for c in ALL)]
    # spillway demo says how to get a checkout, on no page.
    assert set(unused) <= {"git"}


@pytest.mark.parametrize("text", [text for text in SPILLWAY if runs_here(text)])
def test_spillway_runs_as_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, spillway_arguments(text))
    assert result.exit_code == ExitCode.OK, result.output
    assert result.output


@pytest.mark.parametrize("text", [text for text in SPILLWAY if not runs_here(text)])
def test_spillway_takes_the_flags_that_are_shown(text: str) -> None:
    command = root()
    words = spillway_arguments(text)
    while hasattr(command, "commands"):
        command = loaded(command.commands[words.pop(0)])
    command.make_context(command.name, words)


@pytest.mark.parametrize(
    "text",
    sorted({c.text for c in ALL if c.kind is Kind.HELM and "charts/spillway" in c.text}),
)
def test_the_chart_renders_with_the_values_that_are_shown(text: str) -> None:
    words = shlex.split(text)
    assert words[1] in {"install", "upgrade"}
    values: dict[str, Any] = {}
    for place, word in enumerate(words):
        if word != "--set":
            continue
        path, _, value = words[place + 1].partition("=")
        *parents, last = path.split(".")
        at = values
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = {"true": True, "false": False}.get(value, value)
    manifests = render(values)
    assert "deployment.yaml" in manifests
    repository = values.get("image", {}).get("repository", "spillway")
    assert f"{repository}:" in manifests["deployment.yaml"]


def test_files_that_kubectl_is_given_exist() -> None:
    named = {
        word
        for command in ALL
        if command.kind in {Kind.KUBECTL, Kind.PYTHON}
        for word in shlex.split(command.text)
        if re.match(r"(manifests|crds|charts|bench|tools)/", word)
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_page_on_tests_says_what_is_not_run() -> None:
    page = Path(ROOT / "docs/testing.md").read_text(encoding="utf-8")
    assert [start for start in NOT_RUN if f"`{start}`" not in page] == []
