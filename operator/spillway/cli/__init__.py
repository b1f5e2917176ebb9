"""The spillway command: one module a subcommand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

import spillway
from spillway.cli import (
    backtest,
    completion,
    crd,
    demo,
    edge,
    explain,
    giveback,
    manual,
    plan,
    run,
    simulate,
    top,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_POOLS: Final = "Pools"
_MONEY: Final = "What it would cost"
_OPERATOR: Final = "The operator"
_COMMANDS: Final[tuple[tuple[str, Callable[..., Any], str], ...]] = (
    ("explain", explain.explain, _POOLS),
    ("top", top.top, _POOLS),
    ("validate", validate.validate, _POOLS),
    ("simulate", simulate.simulate, _MONEY),
    ("backtest", backtest.backtest, _MONEY),
    ("run", run.run, _OPERATOR),
    ("crd", crd.crd, _OPERATOR),
    ("edge", edge.edge, _OPERATOR),
    ("reset-routes", giveback.reset_routes, _OPERATOR),
    ("release", giveback.release, _OPERATOR),
    ("demo", demo.demo, _OPERATOR),
    ("completion", completion.completion, _OPERATOR),
)

app = typer.Typer(
    name="spillway",
    help="Cost-aware LLM autoscaling: own GPUs first, a paid API for exactly the rest.",
    epilog=manual.ROOT_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command, _panel in _COMMANDS:
    app.command(_name, epilog=manual.epilog(_name), rich_help_panel=_panel)(_command)
app.add_typer(plan.app, rich_help_panel=_MONEY)


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
