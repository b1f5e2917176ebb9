"""``spillway edge``: the configuration of the edge Envoy of a pool."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer
from pydantic import ValidationError

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.edge.bootstrap import build
from spillway.edge.settings import read_settings


def edge(
    settings: Annotated[Path, typer.Argument(help="YAML file of the edge's settings.")],
    out: Annotated[Path | None, typer.Option(help="File to write; unset: standard output.")] = None,
    gateway: Annotated[
        str, typer.Option(help="Name of this very Envoy among the pool's edges.")
    ] = os.environ.get("HOSTNAME", "edge"),
) -> None:
    """Write the bootstrap of a stock Envoy that admits requests before a pool.

    What it needs to know of providers is how they are reached; what they cost and take is told by
    the operator while it runs.
    """
    try:
        text = settings.read_text(encoding="utf-8")
        made = build(read_settings(text), gateway)
    except OSError as error:
        fail(f"{settings}: {error.strerror}; name a file that can be read", ExitCode.USAGE)
    except ValidationError as error:
        lines = "\n       ".join(_problems(error))
        fail(f"{settings}: not the settings of an edge\n       {lines}", ExitCode.USAGE)
    except ValueError as error:
        fail(f"{settings}: {error}", ExitCode.USAGE)
    document = json.dumps(made, indent=1) + "\n"
    if out is None:
        sys.stdout.write(document)
        return
    try:
        out.write_text(document, encoding="utf-8")
    except OSError as error:
        fail(f"{out}: {error.strerror}; name a file that can be written", ExitCode.USAGE)


def _problems(error: ValidationError) -> list[str]:
    """A line for each field: where it is, what it must be, what it is."""
    return [
        f"{'.'.join(map(str, each['loc'])) or 'file'}: "
        f"{each['msg'].removeprefix('Value error, ')}, got {each['input']!r:.80}"
        for each in error.errors()
    ]
