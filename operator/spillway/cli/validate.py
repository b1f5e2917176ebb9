"""``spillway validate``: check InferencePools, and what stands around them, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from spillway.api.names import GROUP, KIND
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.manifests.files import UnreadableError, read
from spillway.cli.manifests.finding import Findings
from spillway.cli.manifests.sense import Checked, check
from spillway.core.pricebook import PriceBook, PriceList

if TYPE_CHECKING:
    from collections.abc import Sequence


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER|-", help="Manifests, YAML or JSON; - is standard input."
        ),
    ],
    price_catalog: Annotated[
        Path | None, typer.Option(help="The operator's price catalog (YAML).")
    ] = None,
    price_map: Annotated[
        Path | None, typer.Option(help="Prices of models as LiteLLM publishes them (JSON).")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as invalid.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every InferencePool in the files, without a cluster.

    Against the schema and the rules of the CRD (misspelt fields too), and against what stands in
    the same files: workload (role label, probe, GPUs, served model), Service, other autoscalers,
    ResourceQuota, HTTPRoute, other pools; with --price-catalog or --price-map also whether every
    price is known. So pass all manifests of a namespace at once. What there was nothing to compare
    with is listed. Not checked: that targetRef must not change, which only the API server sees.
    """
    try:
        reading = read(files)
    except UnreadableError as error:
        fail(str(error), ExitCode.USAGE)
    results = [Checked(file, findings=Findings([why])) for file, why in reading.broken]
    results += check(reading.manifests, _prices(price_catalog, price_map))
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps({"pools": [_json(r) for r in results]}))
    else:
        _print(results)
    if not results:
        fail(f"no {KIND} of {GROUP} in {', '.join(map(str, files))}", ExitCode.USAGE)
    if any(r.findings.problems or (strict and r.findings.warnings) for r in results):
        raise typer.Exit(int(ExitCode.INVALID))


def _prices(catalog: Path | None, price_map: Path | None) -> PriceBook | None:
    if catalog is None and price_map is None:
        return None
    from spillway.adapters.prices import PriceFileError, read_catalog, read_price_map

    try:
        return PriceBook(
            catalog=read_catalog(catalog) if catalog else PriceList(),
            price_map=read_price_map(price_map) if price_map else PriceList(),
        )
    except PriceFileError as error:
        fail(str(error), ExitCode.USAGE)


def _json(result: Checked) -> dict[str, Any]:
    return {
        "file": result.file,
        "namespace": result.namespace,
        "name": result.name,
        "problems": result.findings.problems,
        "warnings": result.findings.warnings,
        "unchecked": result.findings.unchecked,
    }


def _print(results: Sequence[Checked]) -> None:
    console = Console(soft_wrap=True)
    for result in results:
        found = result.findings
        mark = "[red]invalid[/red]" if found.problems else "[green]valid[/green]"
        console.print(mark, end="  ")
        console.print(result.file, result.name or "", markup=False, highlight=False)
        for style, word, lines in (
            ("red", "problem", found.problems),
            ("yellow", "warning", found.warnings),
            ("dim", "unchecked", found.unchecked),
        ):
            for line in lines:
                console.print(f"  [{style}]{word:>9}[/{style}]", end="  ")
                console.print(line, markup=False, highlight=False)
