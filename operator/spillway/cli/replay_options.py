"""Flags that mean the same in ``spillway simulate`` and ``spillway backtest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Pool: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="An InferencePool whose model, prices, targets and limits hold."),
]
Mix: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Lengths where the load has none of its own: chat, code, rag or agent."),
]
KeepGaps: TypeAlias = Annotated[
    bool, typer.Option("--keep-gaps", help="Take silent and missing times as no load.")
]
Profile: TypeAlias = Annotated[
    str | None, typer.Option(help="What a replica is, such as llama-3.1-8b-h100.")
]
GpuPrice: TypeAlias = Annotated[
    float | None, typer.Option(help="US dollars a replica-hour. (default: 3.5)")
]
ApiPrice: TypeAlias = Annotated[
    str | None,
    typer.Option(help="US dollars a million tokens, prompt/output. (default: 0.30/0.60)"),
]
Lead: TypeAlias = Annotated[
    str | None, typer.Option(help="Time to start a replica, median. (default: 3m)")
]
Compare: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Rivals, by comma; none: none. (default: hpa-util,keda-rate,classic,static-peak)"
    ),
]
Optimum: TypeAlias = Annotated[
    bool, typer.Option("--optimum/--no-optimum", help="Work out the optimum.")
]
Jobs: TypeAlias = Annotated[int | None, typer.Option(help="Runs at once. (default: cores)", min=1)]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
