"""The report of a study: what was asked, what it costs, why, and what it does not say."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from spillway.sim.report import figures
from spillway.sim.report.page import Html, Plot, Tile, render_page
from spillway.sim.study import SPILLWAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.study import Entry, Study

_DECISIONS: Final = 400


def render(study: Study, *, title: str, remarks: Sequence[str] = ()) -> str:
    """The page, one file.

    Args:
        study: What came of the runs.
        title: Its title.
        remarks: What a reader must know about the load, a sentence each.
    """
    parts: list[Plot | Html] = [
        Plot(
            figures.cost_split(study),
            "What it costs, and what it keeps",
            f"Every request counts, those that the API answers too. The dotted lines are the "
            f"optimum's cost and the promise: {study.conditions.attainment:.0%} of requests "
            f"within {_targets(study)}.",
        ),
        Html(_table(study)),
    ]
    way = figures.timeline(study)
    if way is not None:
        note = "Drag to zoom, double-click to go back. Point at a triangle for the reason."
        parts.append(Plot(way, "What Spillway did", note))
    parts.append(
        Plot(
            figures.frontier(study),
            "Cost against attainment",
            "Each point is a configuration of a rival, filled with Spillway's burst and hollow "
            "without; lines join those that no other of the same rival beats in both."
            if study.frontier
            else "Each scaler as it comes.",
        )
    )
    parts += _worlds(study)
    lost = figures.regret(study)
    if lost is not None:
        parts.append(
            Plot(lost, "Regret", "Dollars beyond the cheapest that anyone could have done.")
        )
    parts += [Html(_decisions(study)), Html(_remarks(study, remarks))]
    return render_page(title, study.trace.source, _tiles(study), parts)


def _targets(study: Study) -> str:
    world = study.conditions
    return (
        f"{world.ttft_seconds:g} s to the first token and {world.tpot_seconds * 1e3:g} ms a token"
    )


def _tiles(study: Study) -> list[Tile]:
    ours = study.spillway
    days = study.trace.seconds / 86_400
    over = study.over_optimum(ours)
    span = f"{days:.3g} day{'s' if days != 1 else ''}"
    split = f"${ours.result.gpu_usd:,.0f} GPUs and ${ours.result.api_usd:,.0f} API"
    tiles = [
        Tile(f"${ours.result.usd:,.0f}", f"Spillway, {span}: {split}", "own"),
        Tile(
            f"{ours.result.attainment:.1%}",
            "of all requests within the targets",
            "good" if study.keeps(ours) else "bad",
        ),
    ]
    if over is not None:
        tiles.append(Tile(f"{over:.3f}", "times the optimum's cost"))
    rival = study.best_without_burst
    if rival is not None:
        change = ours.result.usd / rival.result.usd - 1
        tiles.append(
            Tile(
                f"{change:+.0%}".replace("-", "\N{MINUS SIGN}"),
                f"against {rival.label}, the cheapest without burst that kept the promise",
                "good" if change < 0 else "bad",
            )
        )
    return tiles


_HEAD: Final = (
    "US dollars", "over optimum", "GPUs", "API", "attained", "to the API", "lost",
    "replica hours", "changes",
)  # fmt: skip


def _table(study: Study) -> str:
    head = "".join(f'<th class="number">{name}</th>' for name in _HEAD)
    entries = [*study.entries, *([study.optimum] if study.optimum is not None else [])]
    rows = "".join(_row(study, entry) for entry in entries)
    return (
        f'<div class="wide"><table><thead><tr><th>scaler</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(study: Study, entry: Entry) -> str:
    result, over = entry.result, study.over_optimum(entry)
    requests = max(result.requests, 1e-9)
    cells = (
        f"${result.usd:,.2f}",
        "" if over is None else f"{over:.3f}",
        f"${result.gpu_usd:,.2f}",
        f"${result.api_usd:,.2f}",
        f"{result.attainment:.2%}",
        f"{result.cloud_requests / requests:.2%}",
        f"{result.lost_requests / requests:.2%}",
        f"{result.replica_hours:,.1f}",
        f"{result.scale_actions:,}",
    )
    missed = "" if study.keeps(entry) else " bad"
    shown = "".join(
        f'<td class="number{missed if number == 4 else ""}">{cell}</td>'
        for number, cell in enumerate(cells)
    )
    ours = ' class="ours"' if entry.name == SPILLWAY else ""
    label = html.escape(entry.label)
    told = html.escape(result.configuration)
    return f'<tr{ours}><td title="{told}">{label}</td>{shown}</tr>'


def _worlds(study: Study) -> list[Plot | Html]:
    parts: list[Plot | Html] = []
    if study.by_lead:
        plot = figures.against(study.by_lead, study, "time from creation to Ready, median", " s")
        parts.append(Plot(plot, "Against the lead time"))
    if study.by_api_price:
        api = study.conditions.api
        plot = figures.against(study.by_api_price, study, "times the API's price", "x")
        price = f"${api.input_usd_per_million:g}/{api.output_usd_per_million:g}"
        note = f"1x is {price} a million prompt and output tokens."
        parts.append(Plot(plot, "Against the API's price", note))
    return parts


def _decisions(study: Study) -> str:
    way = study.spillway.result.timeline
    if way is None or not way.notes:
        return ""
    rows = "".join(
        f'<tr><td class="at">{_clock(note.at)}</td>'
        f'<td class="why"><b>{note.replicas_before} to {note.replicas}</b></td>'
        f"<td>{html.escape(note.reason)}</td></tr>"
        for note in way.notes[:_DECISIONS]
    )
    more = len(way.notes) - _DECISIONS
    rest = f"<p>{more:,} more are in the plot above.</p>" if more > 0 else ""
    return (
        f"<h2>Decisions</h2><details><summary>{len(way.notes):,} changes of the number of "
        "replicas</summary><table><thead><tr><th>at</th><th>replicas</th><th>why</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>{rest}</details>"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    days, minutes = divmod(minutes, 1440)
    day = f"day {days + 1}, " if days else ""
    return f"{day}{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _optimum(study: Study) -> list[str]:
    best, found = study.optimum, study.schedule
    if best is None or found is None:
        return []
    sentence = (
        f"The optimum knows all of the load beforehand. ${best.result.usd:,.2f} is a lower bound "
        f"for {study.conditions.attainment:.0%} attainment; the cheapest schedule that was found "
        f"costs ${found.result.usd:,.2f}."
    )
    return [sentence]


def _remarks(study: Study, remarks: Sequence[str]) -> str:
    world = study.conditions
    replica = (
        f"A replica is {world.profile.name} at ${world.gpu_usd_per_replica_hour:g} an hour and "
        f"serves {study.requests_per_second:.2f} requests a second of this mix within the targets; "
        f"it is Ready after {world.lead.median_seconds:g} s (median), billed from its creation on."
    )
    api = (
        f"The API charges ${world.api.input_usd_per_million:g} and "
        f"${world.api.output_usd_per_million:g} for a million prompt and output tokens."
    )
    fixed = "Fixed sizes are chosen with this very load in hand, which nobody has in advance."
    engine = "Replayed by the fluid engine: load is a flow in steps of 5 s, not single requests."
    said = [*remarks, replica, api, *_optimum(study), fixed, engine]
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in said)
    return f"<h2>What to know about these figures</h2><ul>{items}</ul>"
