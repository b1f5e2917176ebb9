"""The spillway command: one module a subcommand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import typer

import spillway
from spillway.cli import completion, manual
from spillway.cli.lazy import Entry, LazyGroup

_POOLS: Final = "Pools"
_MONEY: Final = "What it would cost"
_OPERATOR: Final = "The operator"
#: Name, where it is, and the heading it stands under.
_COMMANDS: Final = (
    ("explain", "explain:explain", _POOLS),
    ("top", "top:top", _POOLS),
    ("validate", "validate:validate", _POOLS),
    ("simulate", "simulate:simulate", _MONEY),
    ("backtest", "backtest:backtest", _MONEY),
    ("plan", "plan:app", _MONEY),
    ("run", "run:run", _OPERATOR),
    ("crd", "crd:crd", _OPERATOR),
    ("edge", "edge:edge", _OPERATOR),
    ("reset-routes", "giveback:reset_routes", _OPERATOR),
    ("release", "giveback:release", _OPERATOR),
    ("demo", "demo:demo", _OPERATOR),
    ("completion", "completion:completion", _OPERATOR),
)


class _Commands(LazyGroup):
    entries: ClassVar = {
        name: Entry(f"{__name__}.{target}", manual.SUMMARIES[name], manual.epilog(name), panel)
        for name, target, panel in _COMMANDS
    }


app = typer.Typer(
    name="spillway",
    cls=_Commands,
    help="Cost-aware LLM autoscaling: own GPUs first, a paid API for exactly the rest.",
    epilog=manual.ROOT_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"spillway {spillway.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=lambda v: _version(wanted=v),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Nothing that is common to all commands needs doing."""


def main() -> None:
    """Entry point of ``spillway`` and of ``kubectl spillway``."""
    app()


def kubectl_complete() -> None:
    """Entry point of ``kubectl_complete-spillway``: what kubectl asks for candidates."""
    completion.kubectl_complete(app)
