"""Flags that mean the same in every ``spillway plan`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

_API = "The API"
_OWN = "Own GPUs"
_LOAD = "The load"

InputTokens: TypeAlias = Annotated[
    float, typer.Option(help="Mean prompt tokens of a request.", rich_help_panel=_LOAD)
]
OutputTokens: TypeAlias = Annotated[
    float, typer.Option(help="Mean output tokens of a request.", rich_help_panel=_LOAD)
]
CachedShare: TypeAlias = Annotated[
    float,
    typer.Option(help="Share of the prompt that a prefix cache answers.", rich_help_panel=_LOAD),
]
Contexts: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Context lengths and their shares, as 1000:0.7,8000:0.25,100000:0.05; sets the mean "
        "prompt.",
        rich_help_panel=_LOAD,
    ),
]
P95Rps: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Requests a second at the 95th percentile.", rich_help_panel=_LOAD),
]
P95OverP50: TypeAlias = Annotated[
    float,
    typer.Option(
        help="How far the 95th percentile of the rate is above its median.", rich_help_panel=_LOAD
    ),
]
#: Attention is priced for this size of model unless another is named.
ATTENTION_MODEL: Final = "llama-8b"
AttentionModel: TypeAlias = Annotated[
    str, typer.Option("--model", help="Model whose attention is priced, by name and size.")
]
RetryRate: TypeAlias = Annotated[
    float,
    typer.Option(help="Share of the attempts that fail and are retried.", rich_help_panel=_LOAD),
]
Retries: TypeAlias = Annotated[
    int, typer.Option(help="Most retries of a request.", rich_help_panel=_LOAD)
]
TraceFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trace", help="A recorded load; stands in for rate and lengths.", rich_help_panel=_LOAD
    ),
]

ApiInput: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a million prompt tokens.", rich_help_panel=_API)
]
ApiOutput: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a million output tokens.", rich_help_panel=_API)
]
ApiCached: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="US dollars a million cached prompt tokens; unset: it does not cache.",
        rich_help_panel=_API,
    ),
]
BilledErrors: TypeAlias = Annotated[
    float,
    typer.Option(help="Share of failed attempts that is billed.", rich_help_panel=_API),
]
ExtraSeconds: TypeAlias = Annotated[
    float,
    typer.Option(help="How much longer an answer takes there.", rich_help_panel=_API),
]
UsdPerSecond: TypeAlias = Annotated[
    float, typer.Option(help="What a second of waiting costs.", rich_help_panel=_API)
]

ReplicaHour: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a replica-hour, all its GPUs.", rich_help_panel=_OWN)
]
RpsPerReplica: TypeAlias = Annotated[
    float,
    typer.Option(help="Requests a second that a replica serves in time.", rich_help_panel=_OWN),
]
SpareReplicas: TypeAlias = Annotated[
    int, typer.Option(help="Replicas held for redundancy.", rich_help_panel=_OWN)
]
StorageMonth: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a month for storage.", rich_help_panel=_OWN)
]
NetworkMonth: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a month for the network.", rich_help_panel=_OWN)
]
LabourMonth: TypeAlias = Annotated[
    float, typer.Option(help="US dollars a month for engineers' time.", rich_help_panel=_OWN)
]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
PlotFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--plot", help="Write the plots to this HTML file (needs the extra sim)."),
]
