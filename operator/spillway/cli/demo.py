"""``spillway demo``: the demo of a checkout, from wherever one stands in it."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

import spillway
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode

_MODULE: Final = "tests.e2e.rig.demo"
_HOME: Final = "https://github.com/spillway-dev/spillway"


class DemoCluster(StrEnum):
    """Where the demo runs."""

    LOCAL = "local"
    KIND = "kind"
    CURRENT = "current"


def demo(
    cluster: Annotated[
        DemoCluster,
        typer.Option(
            help="local: a control plane of its own; kind: one that kind makes; current: the "
            "cluster of your KUBECONFIG."
        ),
    ] = DemoCluster.LOCAL,
    minutes: Annotated[
        float, typer.Option(help="How long the workload runs.", min=0.5, max=120)
    ] = 7.0,
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("demo-out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run the operator on a real control plane with emulated GPUs, through a ramp and a spike.

    Needs a checkout of the repository, Linux and Go: the control plane is built from its pinned Go
    modules (minutes, once), which no Python package carries. Elsewhere it says so, with code 2;
    `spillway simulate` needs neither.
    """
    root = checkout()
    if root is None:
        text = (
            "the demo builds a control plane from sources that only a checkout has\n"
            f"       git clone {_HOME} && cd spillway && make demo\n"
            "       or, without one: spillway simulate"
        )
        fail(text, ExitCode.USAGE)
    command = [sys.executable, "-m", _MODULE, "--cluster", cluster.value]
    command += ["--minutes", f"{minutes:g}", "--output", str(output.absolute())]
    command += ["--json"] if as_json else []
    os.chdir(root)
    # In this process's place, so that Ctrl-C is the demo's own and it can clear up.
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def checkout() -> Path | None:
    """The checkout that this package was installed from in place, or that one stands in."""
    package = Path(spillway.__file__).resolve().parent
    here = Path.cwd().resolve()
    for folder in (package.parent.parent, here, *here.parents):
        if folder.joinpath(*_MODULE.split(".")).with_suffix(".py").is_file():
            return folder
    return None
