"""``spillway completion``, and the program that kubectl asks for ``kubectl spillway`` + Tab."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import redirect_stdout, suppress
from enum import StrEnum
from typing import Annotated, Final

import typer
from typer.main import get_command

#: The variable by which a shell's script asks the command itself (click's protocol).
_VARIABLE: Final = "_SPILLWAY_COMPLETE"
_PROGRAM: Final = "spillway"
#: kubectl's directive: files are offered where the command offers nothing.
_DEFAULT_DIRECTIVE: Final = ":0"


class Shell(StrEnum):
    """Shells that can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(
    context: typer.Context, shell: Annotated[Shell, typer.Argument(help="The shell.")]
) -> None:
    """Print the completion script of a shell."""
    root = context.find_root().command
    os.environ[_VARIABLE] = f"source_{shell.value}"
    root.main(args=[], prog_name=_PROGRAM)


def kubectl_complete(app: typer.Typer) -> None:
    """Answer kubectl, which passes the words so far and wants one candidate a line.

    kubectl looks for a program ``kubectl_complete-spillway`` on the PATH (kubectl 1.26 or newer).
    """
    words = sys.argv[1:] or [""]
    os.environ[_VARIABLE] = "complete_bash"
    os.environ["COMP_WORDS"] = shlex.join([_PROGRAM, *words])
    os.environ["COMP_CWORD"] = str(len(words))
    found = io.StringIO()
    with redirect_stdout(found), suppress(SystemExit):
        get_command(app).main(args=[], prog_name=_PROGRAM)
    sys.stdout.write(f"{found.getvalue().strip()}\n{_DEFAULT_DIRECTIVE}\n")
