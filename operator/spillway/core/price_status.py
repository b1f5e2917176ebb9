"""Prices in a pool's status: what `explain` shows, and what holds across a restart.

Only prices from outside of the spec are there. A price's figures are rounded as all of the status
is, so that a series that trembles is not written at each tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.reasons import Reason
from spillway.api.status import PriceStatus
from spillway.api.timestamps import format_time, parse_time
from spillway.core.prices import GpuPrice, Prices, PriceSource, TokenPrice

if TYPE_CHECKING:
    from collections.abc import Iterable

_VARIANT: Final = "variant "
_PROVIDER: Final = "provider "
_DIGITS: Final = 4


def to_status(prices: Prices) -> list[PriceStatus]:
    """The prices that others than the spec have given."""
    held = {note.subject for note in prices.notes if note.reason is Reason.PRICE_HELD}
    entries = []
    for name, gpu in prices.gpus.items():
        subject = _VARIANT + name
        if gpu.source is not PriceSource.DECLARED:
            entries.append(
                PriceStatus(
                    name=subject,
                    item=gpu.item,
                    source=gpu.source,
                    per_accelerator_hour=_figure(gpu.usd_per_gpu_hour),
                    held_since=format_time(gpu.believed_at) if subject in held else "",
                )
            )
    for name, api in prices.apis.items():
        subject = _PROVIDER + name
        cached = api.cached_input_per_million
        if api.source is not PriceSource.DECLARED:
            entries.append(
                PriceStatus(
                    name=subject,
                    item=api.item,
                    source=api.source,
                    input_per_million=_figure(api.input_per_million),
                    output_per_million=_figure(api.output_per_million),
                    cached_input_per_million=None if cached is None else _figure(cached),
                    held_since=format_time(api.believed_at) if subject in held else "",
                )
            )
    return entries


def restored(entries: Iterable[PriceStatus], now: float) -> Prices:
    """The prices of a status, to be compared with and held after a restart.

    Entries that make no sense are left out: the status may be anybody's.
    """
    gpus: dict[str, GpuPrice] = {}
    apis: dict[str, TokenPrice] = {}
    for entry in entries:
        try:
            source = PriceSource(entry.source)
            believed = parse_time(entry.held_since) if entry.held_since else now
        except ValueError:
            continue
        gpu, prompt, answer = (
            entry.per_accelerator_hour,
            entry.input_per_million,
            entry.output_per_million,
        )
        if entry.name.startswith(_VARIANT) and gpu:
            name = entry.name.removeprefix(_VARIANT)
            gpus[name] = GpuPrice(gpu, source, entry.item, believed_at=believed)
        elif entry.name.startswith(_PROVIDER) and prompt and answer:
            apis[entry.name.removeprefix(_PROVIDER)] = TokenPrice(
                prompt,
                answer,
                source,
                entry.cached_input_per_million,
                entry.item,
                believed_at=believed,
            )
    return Prices(gpus, apis)


def _figure(usd: float) -> float:
    return float(f"{usd:.{_DIGITS}g}")
