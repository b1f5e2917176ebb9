"""Reads the few lines of an engine's /metrics page that matter and skips the rest unparsed.

A vLLM page has several hundred lines, nearly all of them histogram buckets; parsing them all takes
milliseconds and a fast loop over many pods cannot pay that (``bench/bench_page.py`` shows the
ratio). So lines are first filtered by how they begin.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spillway.adapters.metrics import catalog
from spillway.adapters.metrics.snapshot import Rank, mean_kv_usage, total

if TYPE_CHECKING:
    from collections.abc import Collection

    from spillway.adapters.metrics.catalog import Series

_SIGNALS: Final[dict[str, tuple[Series, ...]]] = {
    "running": catalog.RUNNING,
    "waiting": catalog.WAITING,
    "waiting_all": catalog.WAITING_ALL,
    "kv_usage": catalog.KV_USAGE,
    "finished": catalog.FINISHED,
    "prompt_tokens": catalog.PROMPT_TOKENS,
    "generation_tokens": catalog.GENERATION_TOKENS,
    "prefix_hit_tokens": catalog.PREFIX_HIT_TOKENS,
    "steps": catalog.STEPS,
}
_NAMES: Final = frozenset(
    {series.name for alternatives in _SIGNALS.values() for series in alternatives}
    | {catalog.CACHE_CONFIG.name}
)
#: The shortest beginnings that cover all names; what they let through is checked exactly below.
_BEGINNINGS: Final = tuple(
    name for name in _NAMES if not any(name != other and name.startswith(other) for other in _NAMES)
)
_LINE: Final = re.compile(
    r'([\w:]+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\s*', re.ASCII
)
_LABEL: Final = re.compile(r'(\w+)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"', re.ASCII)
_ESCAPE: Final = re.compile(r"\\(.)")
_MAX_LINE_CHARACTERS: Final = 8192


@dataclass(frozen=True, slots=True)
class EnginePage:
    """One page of an engine, its data-parallel ranks summed. None where the page does not say.

    Attributes:
        at: When it was read, seconds since the epoch.
        running: Requests in the running batch.
        waiting: Requests queued for capacity.
        waiting_all: All queued requests; a pod is idle only when this is 0 too.
        kv_usage: Share of the KV cache in use, 0 to 1.
        finished: Requests completed since the engine started, as all counters below.
        prompt_tokens: Prompt tokens, cached ones included.
        generation_tokens: Output tokens.
        prefix_hit_tokens: Prompt tokens that the prefix cache answered.
        steps: Engine steps.
        engines: Number of engine ranks on the page.
        model_names: Models on the page.
    """

    at: float
    running: float | None = None
    waiting: float | None = None
    waiting_all: float | None = None
    kv_usage: float | None = None
    finished: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    steps: float | None = None
    engines: int = 0
    model_names: frozenset[str] = frozenset()

    @property
    def idle(self) -> bool | None:
        """Whether nothing runs and nothing waits for any reason; None where that is not known."""
        if self.running is None or self.waiting_all is None:
            return None
        return self.running == 0 and self.waiting_all == 0


#: One line: labels and value; a value that is no finite number of 0 or more is None.
_Row = tuple[dict[str, str], float | None]


def parse_page(text: str, at: float) -> EnginePage:
    """The engine's state from a page in the Prometheus text format.

    Lines that cannot be read are skipped; a signal with a value that cannot be (NaN, infinite,
    negative) is unknown.

    Args:
        text: The page, not trusted.
        at: When it was read, seconds since the epoch.
    """
    rows: defaultdict[str, list[_Row]] = defaultdict(list)
    for line in text.split("\n"):
        if line.startswith(_BEGINNINGS) and len(line) <= _MAX_LINE_CHARACTERS:
            match = _LINE.fullmatch(line)
            if match is not None and match[1] in _NAMES:
                rows[match[1]].append((_labels(match[2]), _number(match[3])))
    values = {signal: _by_rank(rows, alternatives) for signal, alternatives in _SIGNALS.items()}
    ranks = values["running"].keys()
    blocks = _blocks(rows[catalog.CACHE_CONFIG.name])
    return EnginePage(
        at=at,
        running=_sum(values["running"], ranks),
        waiting=_sum(values["waiting"], ranks),
        waiting_all=_sum(values["waiting_all"], ranks),
        kv_usage=mean_kv_usage(values["kv_usage"], ranks, blocks),
        finished=_sum(values["finished"], ranks),
        prompt_tokens=_sum(values["prompt_tokens"], ranks),
        generation_tokens=_sum(values["generation_tokens"], ranks),
        prefix_hit_tokens=_sum(values["prefix_hit_tokens"], ranks),
        steps=_sum(values["steps"], ranks),
        engines=len(ranks),
        model_names=frozenset(model for model, _ in ranks if model),
    )


def _sum(values: dict[Rank, float], ranks: Collection[Rank]) -> float | None:
    return total(values, ranks) if ranks else None


def _by_rank(rows: dict[str, list[_Row]], alternatives: tuple[Series, ...]) -> dict[Rank, float]:
    """Values by rank of the first alternative that is on the page; empty if one makes no sense."""
    for series in alternatives:
        found = [
            row
            for row in rows.get(series.name, ())
            if all(row[0].get(label) == value for label, value in series.where)
        ]
        if found:
            return _sum_by_rank(found)
    return {}


def _sum_by_rank(rows: list[_Row]) -> dict[Rank, float]:
    """Sums what a rank splits (by finished_reason); a series that is there twice counts once."""
    distinct: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, value in rows:
        if value is None:
            return {}
        key = tuple(sorted(labels.items()))
        distinct[key] = max(value, distinct.get(key, value))
    ranks: defaultdict[Rank, float] = defaultdict(float)
    for key, value in distinct.items():
        labels = dict(key)
        ranks[labels.get("model_name", ""), labels.get("engine", "")] += value
    return dict(ranks)


def _blocks(rows: list[_Row]) -> dict[str, float]:
    blocks: dict[str, float] = {}
    for labels, _ in rows:
        count = _number(labels.get("num_gpu_blocks", ""))
        if count is not None:
            blocks[labels.get("engine", "")] = count
    return blocks


def _labels(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    found = dict(_LABEL.findall(text))
    if "\\" in text:
        found = {name: _ESCAPE.sub(_unescape, value) for name, value in found.items()}
    return found


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
