"""``spillway plan prices``: what the price files say, and whether it can be believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from spillway.adapters.prices import PriceFileError, read_catalog, read_price_map
from spillway.api.timestamps import format_time
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.plan.options import AsJson  # noqa: TC001 - typer reads the annotations
from spillway.cli.plan.output import Columns, number, show
from spillway.core.pricebook import PriceList
from spillway.core.prices import GpuPrice, PriceSource, TokenPrice, believable


def prices(
    catalog: Annotated[Path | None, typer.Option(help="Price catalog (YAML).")] = None,
    price_map: Annotated[Path | None, typer.Option(help="LiteLLM's price map (JSON).")] = None,
    model: Annotated[str, typer.Option(help="Only models whose entry contains this.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check price files: what they hold, and what the operator would not believe. Exit code 5."""
    if catalog is None and price_map is None:
        fail("name a file: --catalog, --price-map, or both", ExitCode.USAGE)
    try:
        lists = {
            PriceSource.CATALOG: PriceList() if catalog is None else read_catalog(catalog),
            PriceSource.PRICE_MAP: PriceList() if price_map is None else read_price_map(price_map),
        }
    except PriceFileError as error:
        fail(str(error), ExitCode.INVALID)
    gpus = [
        {"gpu": name, "bought": kind.value, "usd_per_hour": usd, "doubt": believable(price, None)}
        for (name, kind), usd in lists[PriceSource.CATALOG].gpus.items()
        for price in (GpuPrice(usd, PriceSource.CATALOG),)
    ]
    models = [
        entry
        for source, found in lists.items()
        for entry in _models(source, found)
        if model.lower() in entry["model"].lower()
    ]
    as_of = {
        source.value: format_time(found.as_of)[:10]
        for source, found in lists.items()
        if found.as_of is not None
    }
    tables = [_gpu_table(gpus)] if gpus else []
    tables += [_model_table(models)] if models else []
    if tables:
        days = ", ".join(f"{source} of {day}" for source, day in as_of.items())
        tables[-1] = replace(tables[-1], note=days)
    show({"as_of": as_of, "gpus": gpus, "models": models}, tables, as_json=as_json)
    # The map is other people's: an odd entry in it is passed over, not an error.
    odd = [e for e in (*gpus, *models) if e["doubt"] and e.get("source") != PriceSource.PRICE_MAP]
    if odd:
        raise typer.Exit(int(ExitCode.INVALID))


def _models(source: PriceSource, found: PriceList) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "source": source.value,
            "input_per_million": price.input_per_million,
            "output_per_million": price.output_per_million,
            "cached_input_per_million": price.cached_input_per_million,
            "deprecated": ""
            if price.deprecated_at is None
            else format_time(price.deprecated_at)[:10],
            "doubt": believable(
                TokenPrice(price.input_per_million, price.output_per_million, source), None
            ),
        }
        for name, price in found.models.items()
    ]


def _gpu_table(gpus: list[dict[str, Any]]) -> Columns:
    rows = [(e["gpu"], e["bought"], number(e["usd_per_hour"]), e["doubt"] or "") for e in gpus]
    return Columns("GPUs", ("product", "bought", "$ an hour", "not believed, because"), rows)


def _model_table(models: list[dict[str, Any]]) -> Columns:
    rows = [
        (
            e["model"],
            e["source"],
            number(e["input_per_million"]),
            number(e["output_per_million"]),
            "" if e["cached_input_per_million"] is None else number(e["cached_input_per_million"]),
            e["deprecated"],
            e["doubt"] or "",
        )
        for e in models
    ]
    heads = ("model", "source", "$ in/M", "$ out/M", "$ cached/M", "ends", "not believed, because")
    return Columns("Models", heads, rows)
