"""Draws the plots of docs/concepts/economics.md from the code that decides.

    python -m tools.gen_economics            # write docs/images/economics-*.svg
    python -m tools.gen_economics --check    # exit 1 and name the images that are stale

Plain SVG without a library: what is checked in must not depend on who drew it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from spillway.core.economics import SECONDS_PER_HOUR
from spillway.core.tco.costs import HOURS_PER_MONTH, ApiTerms, OwnTerms, fixed_fleet
from spillway.core.tco.crossover import crossover
from spillway.core.tco.load import from_p95
from spillway.core.tokenmix import TokenMix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
IMAGES: Final = ROOT / "docs" / "images"

#: The example of the page: `spillway plan tco` is called there with the same figures.
MIX: Final = TokenMix(1500, 300)
API: Final = ApiTerms(0.30, 0.60)
OWN: Final = OwnTerms(3.50, 6.0)
LOAD: Final = from_p95(40.0, MIX)

#: Okabe and Ito (2008), as in every other plot: own GPUs, the API, both.
_OWN, _API, _BOTH = "#0072B2", "#E69F00", "#009E73"
_WIDTH, _HEIGHT = 720, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 50
_STEPS: Final = 300
_STYLE: Final = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#444}"
    ".axis{stroke:#999}.grid{stroke:#9995}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)


#: Where a mark's text stands beside its point: across, down, and which end is there. Clear of lines
#: that fall to the point and rise from it.
_PLACES: Final = {"above": (4, -24, "start"), "below": (9, 14, "start"), "left": (-6, -9, "end")}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: its name, its colour and its points."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with a text."""

    x: float
    y: float
    text: str
    place: Literal["above", "below", "left"]


def chart(
    title: str, x_title: str, y_title: str, lines: Sequence[Line], marks: Sequence[Mark] = ()
) -> str:
    """A line chart from 0 on both axes, as SVG."""
    x_most = max(x for line in lines for x, _ in line.points)
    y_most = max(y for line in lines for _, y in line.points) * 1.05

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / x_most * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - y / y_most * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{title}</title><style>{_STYLE}</style>",
        *_axes(x_most, y_most, at),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">{x_title}</text>',
        f'<text x="{_LEFT}" y="18">{y_title}</text>',
    ]
    for number, line in enumerate(lines):
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in (at(*p) for p in line.points))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2.2"/>'
        )
        x = _WIDTH - _RIGHT - 150 * (len(lines) - number)
        parts.append(f'<rect x="{x}" y="9" width="14" height="4" fill="{line.colour}"/>')
        parts.append(f'<text x="{x + 20}" y="18">{line.name}</text>')
    for mark in marks:
        across, up = at(mark.x, mark.y)
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="#D55E00"/>')
        aside, down, anchor = _PLACES[mark.place]
        where = f'x="{across + aside:.1f}" y="{up + down:.1f}" text-anchor="{anchor}"'
        parts.append(f"<text {where}>{mark.text}</text>")
    return "\n".join([*parts, "</svg>", ""])


def _axes(
    x_most: float, y_most: float, at: Callable[[float, float], tuple[float, float]]
) -> list[str]:
    parts = []
    for value in _ticks(x_most):
        across, up = at(value, 0)
        parts.append(
            f'<text x="{across:.1f}" y="{up + 18:.1f}" text-anchor="middle">{value:g}</text>'
        )
    for value in _ticks(y_most):
        across, up = at(0, value)
        right, _ = at(x_most, value)
        parts.append(
            f'<line class="grid" x1="{across:.1f}" y1="{up:.1f}" x2="{right:.1f}" y2="{up:.1f}"/>'
        )
        parts.append(
            f'<text x="{across - 8:.1f}" y="{up + 4:.1f}" text-anchor="end">${value:,.0f}</text>'
        )
    left, low = at(0, 0)
    right, _ = at(x_most, 0)
    parts.append(f'<line class="axis" x1="{left}" y1="{low}" x2="{right}" y2="{low}"/>')
    return parts


def _ticks(most: float) -> list[float]:
    """About five round values from 0 to the largest."""
    rough = most / 5
    power = 10.0 ** len(str(int(rough))) / 10 if rough >= 1 else 0.1
    step = min((power * f for f in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    return [step * i for i in range(int(most / step) + 1)]


def crossover_image() -> str:
    """A month's bill over a steady volume: the API, own GPUs, and both by the marginal rule."""
    at = crossover(OWN, API, MIX, 1.0)
    end = 4 * OWN.rps_per_replica
    rates = [end * i / _STEPS for i in range(_STEPS + 1)]
    month = HOURS_PER_MONTH * SECONDS_PER_HOUR * API.usd_per_attempt(MIX)
    hour = OWN.usd_per_replica_hour * HOURS_PER_MONTH

    def both(rate: float) -> float:
        most = OWN.replicas_for(rate, 1.0)
        return min(
            n * hour + max(0.0, rate - n * OWN.rps_per_replica) * month for n in range(most + 1)
        )

    first = at.first or 0.0
    return chart(
        "US dollars a month over a steady load",
        "steady requests per second",
        "US dollars a month",
        (
            Line("API alone", _API, tuple((r, r * month) for r in rates)),
            Line("own GPUs", _OWN, tuple((r, OWN.replicas_for(r, 1.0) * hour) for r in rates)),
            Line("both", _BOTH, tuple((r, both(r)) for r in rates)),
        ),
        (Mark(first, first * month, f"{first:.2f} requests/s", "below"),),
    )


def fleet_image() -> str:
    """A month's bill over the size of a fixed fleet, the API taking the rest."""
    p50, p95 = (OWN.replicas_for(LOAD.quantile(level)) for level in (0.5, 0.95))
    bills = [fixed_fleet("", n, LOAD, OWN, API) for n in range(p95 + 3)]
    best = min(range(len(bills)), key=lambda n: bills[n].total)
    totals = tuple((float(n), bill.total) for n, bill in enumerate(bills))
    marks = [Mark(p95, bills[p95].total, "p95 at 85 %", "left")]
    if p50 == best:
        marks.append(Mark(best, bills[best].total, "p50 at 85 % and optimum", "above"))
    else:
        marks.append(Mark(p50, bills[p50].total, "p50 at 85 %", "above"))
        marks.append(Mark(best, bills[best].total, "optimum", "below"))
    return chart(
        "US dollars a month over the number of replicas",
        "replicas, all month",
        "US dollars a month",
        (
            Line("API", _API, tuple((float(n), bill.api) for n, bill in enumerate(bills))),
            Line("GPUs", _OWN, tuple((float(n), bill.gpu) for n, bill in enumerate(bills))),
            Line("total", _BOTH, totals),
        ),
        marks,
    )


PLOTS: Final[dict[str, Callable[[], str]]] = {
    "economics-crossover.svg": crossover_image,
    "economics-fleet.svg": fleet_image,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the images, or check them; 1 when a checked image is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.gen_economics", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if an image is stale")
    options = parser.parse_args(arguments)
    stale = 0
    for name, draw in PLOTS.items():
        path, text = IMAGES / name, draw()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: python -m tools.gen_economics\n")
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
