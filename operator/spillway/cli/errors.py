"""One way to fail: a red line on stderr that says what is wrong and what to do, and a code."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from spillway.cli.exit_codes import ExitCode

#: Settings whose values are never printed.
_SECRET: Final = frozenset({"prometheus_headers"})
_SHOWN_CHARACTERS: Final = 80


def fail(message: str, code: ExitCode) -> NoReturn:
    """Print the message and leave with the code."""
    Console(stderr=True, soft_wrap=True).print(
        f"error: {message}", style="red", markup=False, highlight=False
    )
    raise typer.Exit(int(code))


def describe(error: ValidationError, prefix: str) -> str:
    """One line a problem: the variable, the value and what is accepted; never a secret."""
    lines = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
        if not problem["loc"]:
            lines.append(_with_variables(message, prefix))
            continue
        field, *inner = (str(part) for part in problem["loc"])
        where = f" ({'.'.join(inner)})" if inner else ""
        shown = repr(problem["input"])
        hidden = field in _SECRET or "@" in shown
        value = "" if hidden else f", got {shown[:_SHOWN_CHARACTERS]}"
        lines.append(f"{prefix}{field.upper()}{where}: {message}{value}")
    return "\n       ".join(lines)


def describe_unreadable(error: SettingsError, prefix: str) -> str:
    """A variable that must be JSON and is not."""
    named = re.search(r'field "(\w+)"', str(error))
    if named is None:
        return str(error)
    return (
        f'{prefix}{named[1].upper()}: must be JSON, a list such as ["a", "b"] or an object such '
        'as {"name": "value"}'
    )


def _with_variables(message: str, prefix: str) -> str:
    """The message with PrometheusAuth's own names replaced by the variables that set them."""
    # Here, not above: it brings HTTP clients, and every command can fail.
    from spillway.adapters.metrics.auth import PrometheusAuth

    names = "|".join(field.name for field in fields(PrometheusAuth))
    return re.sub(
        rf"(?<!_)\b({names})\b", lambda name: f"{prefix}PROMETHEUS_{name[1].upper()}", message
    )
