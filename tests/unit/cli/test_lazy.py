"""A command imports what it needs, and none of what the others need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from spillway.cli.lazy import Entry, LazyCommand, LazyGroup, loaded
from spillway.cli.manual import SUMMARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = "manifests/samples/minimal.yaml"
#: What the operator or the simulator runs on, and takes CPU time to import.
HEAVY = {
    "aiohttp",
    "kopf",
    "kubernetes",
    "numpy",
    "plotly",
    "prometheus_api_client",
    "prometheus_client",
    "pydantic_settings",
    "requests",
}
#: Runs command lines one after the other, and prints after each what is imported by then.
_RUNNER = """
import contextlib, io, json, sys
from spillway.cli import app
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            app(words)
        except SystemExit as end:
            code = end.code
    print(json.dumps([words, code, sorted(name for name in sys.modules if "." not in name)]))
"""


def imported(*lines: list[str]) -> list[tuple[str, int, set[str]]]:
    """Each command line with its exit code and the heavy packages that are imported after it."""
    ran = subprocess.run(
        [sys.executable, "-c", _RUNNER, json.dumps(lines)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    return [(" ".join(words), code or 0, HEAVY & set(found)) for words, code, found in answers]


def listed(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group, with its words, as its group lists it."""
    for name, command in group.commands.items():
        words = f"{path} {name}".strip()
        yield words, command
        inner = loaded(command)
        if hasattr(inner, "commands"):
            yield from listed(inner, words)


COMMANDS = dict(listed(get_command(app)))


@pytest.mark.slow
def test_help_version_and_completion_import_no_client_and_nothing_that_computes() -> None:
    helps = [[*words.split(), "--help"] for words in COMMANDS]
    others = [["--help"], ["--version"], [], ["completion", "bash"], ["tpo"]]
    found = imported(*others, *helps)
    assert len(found) == len(others) + len(COMMANDS)
    assert [(line, heavy) for line, _, heavy in found if heavy] == []
    codes = {line: code for line, code, _ in found}
    assert codes.pop("tpo") == codes.pop("") == ExitCode.USAGE
    assert set(codes.values()) == {ExitCode.OK}


@pytest.mark.slow
def test_commands_that_read_files_import_no_client_and_nothing_that_computes(
    tmp_path: Path,
) -> None:
    pool = ROOT / "tests/unit/recorded_pools/healthy.json"
    catalog = tmp_path / "prices.yaml"
    catalog.write_text('accelerators: {NVIDIA-L40S: {onDemand: "1.10"}}\n', encoding="utf-8")
    found = imported(
        ["validate", SAMPLE],
        ["validate", "--price-catalog", str(catalog), SAMPLE],
        ["crd"],
        ["explain", "--file", str(pool)],
        ["plan", "prices", "--catalog", str(catalog)],
        ["plan", "autoscaling", "--peak-rps", "200", "--mean-rps", "40", "--rps-per-replica", "100",
         "--replica-hour", "3.06"],
        ["plan", "rag", "--api-input", "0.30", "--api-output", "0.60"],
    )  # fmt: skip
    assert [(line, heavy) for line, _, heavy in found if heavy] == []
    # The catalog lacks the sample's GPU, and that is said.
    codes = [ExitCode.INVALID if "--price-catalog" in line else ExitCode.OK for line, _, _ in found]
    assert [code for _, code, _ in found] == codes


@pytest.mark.slow
def test_a_command_that_asks_a_cluster_imports_its_client_and_not_the_operator(
    tmp_path: Path,
) -> None:
    ((_, code, heavy),) = imported(["top", "--kubeconfig", str(tmp_path / "none"), "-n", "serving"])
    assert code == ExitCode.USAGE
    assert {"aiohttp", "kubernetes"} <= heavy, "so the names above are what packages are called"
    assert heavy.isdisjoint({"kopf", "numpy", "plotly", "prometheus_api_client"})


@pytest.mark.parametrize("words", COMMANDS)
def test_the_list_says_what_the_command_says_of_itself(words: str) -> None:
    command = COMMANDS[words]
    assert isinstance(command, LazyCommand)
    assert command.name == words.rsplit(maxsplit=1)[-1] == loaded(command).name
    first, *_ = loaded(command).help.split("\n\n")
    assert SUMMARIES[words] == command.help == " ".join(first.split())


def test_every_summary_is_of_a_command() -> None:
    assert set(SUMMARIES) == set(COMMANDS)


def test_what_a_command_needs_is_imported_when_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("shop_till.py").write_text(
        'def till(coins: int) -> None:\n    """Count."""\n    print(coins + 1)\n', encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    class Shop(LazyGroup):
        """One command."""

        entries: ClassVar = {"till": Entry("shop_till:till", "Count.")}

    shop = typer.Typer(cls=Shop)
    shop.callback()(lambda: None)
    assert "Count." in CliRunner().invoke(shop, ["--help"]).output
    assert "shop_till" not in sys.modules
    assert CliRunner().invoke(shop, ["till", "2"]).output == "3\n"
    assert "shop_till" in sys.modules
    monkeypatch.delitem(sys.modules, "shop_till")
