"""Mooncake: Kimi's requests with the hashes of their prompts' blocks.

https://github.com/kvcache-ai/Mooncake (FAST25-release), Apache-2.0; FAST 2025. One JSON object a
line: timestamp (ms), input_length, output_length, hash_ids. A hash stands for a block of 512 tokens
and everything before it, so a prompt's hits are its leading blocks that were seen before.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spillway.sim.trace import Lengths
from spillway.sim.traces.building import from_requests
from spillway.sim.traces.errors import TraceError, shown
from spillway.sim.traces.reading import lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spillway.sim.trace import Trace

BLOCK_TOKENS: Final = 512
"""Tokens of a hashed block."""
_FIELDS: Final = ("timestamp", "input_length", "output_length")


def is_mooncake(row: Mapping[str, Any]) -> bool:
    """Whether a file whose first line is that object is Mooncake's."""
    return all(name in row for name in _FIELDS)


class PrefixCache:
    """Which leading blocks of a prompt were seen before: one cache, least recently used out first.

    Args:
        blocks: How many it holds; None: all.
    """

    def __init__(self, blocks: int | None = None) -> None:
        self._most = blocks
        self._held: OrderedDict[object, None] = OrderedDict()

    def take(self, hashes: list[object]) -> int:
        """Number of leading blocks found; all of the prompt's are held afterwards."""
        found = 0
        while found < len(hashes) and hashes[found] in self._held:
            found += 1
        for block in hashes:
            self._held[block] = None
            self._held.move_to_end(block)
        while self._most is not None and len(self._held) > self._most:
            self._held.popitem(last=False)
        return found


def load(path: Path, *, cache_tokens: int | None = None) -> Trace:
    """One JSON object a line.

    Args:
        path: The file.
        cache_tokens: What the prefix cache holds; None: everything, which is the most that any
            cache could answer. Spread over replicas without affinity it would be less.

    Raises:
        TraceError: The file is not such a one.
    """
    blocks = None if cache_tokens is None else cache_tokens // BLOCK_TOKENS
    cache = PrefixCache(blocks)
    values: list[tuple[float, int, int, int]] = []
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        row = _object(path, line, number)
        at, prompt, output = (_value(path, row, name, number, line) for name in _FIELDS)
        hit = cache.take(_hashes(path, row, number, line)) * BLOCK_TOKENS
        # The last token is computed even where everything is known: it yields the first answer.
        values.append((at, int(prompt), int(output), max(0, min(hit, int(prompt) - 1))))
    if not values:
        raise TraceError(path, "at least one request", "no line")
    at_ms, prompts, outputs, hits = zip(*values, strict=True)
    lengths = Lengths(np.array(prompts), np.array(outputs), np.array(hits))
    size = "unlimited" if cache_tokens is None else f"of {cache_tokens:,} tokens"
    source = (
        f"Mooncake, {len(values):,} single requests ({path.name}); prefix hits are those of one "
        f"cache, {size}."
    )
    return from_requests(path, source, np.array(at_ms) / 1000.0, lengths)


def _object(path: Path, line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        column = getattr(error, "colno", 1)
        reason = getattr(error, "msg", "nested too deeply")
        raise TraceError(path, "JSON", reason, line=number, column=column) from error
    if not isinstance(row, dict):
        raise TraceError(path, "a JSON object", shown(row), line=number, column=1)
    return row


def _value(path: Path, row: dict[str, Any], name: str, number: int, line: str) -> float:
    value = row.get(name)
    whole = name != "timestamp"
    good = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < 1e15
        and (not whole or value == int(value))
    )
    if not good:
        what = f"a {'whole ' if whole else ''}number from 0 up in {name}"
        found = shown(value) if name in row else "no such field"
        raise TraceError(path, what, found, line=number, column=_column(line, name))
    return float(value)  # type: ignore[arg-type]


def _hashes(path: Path, row: dict[str, Any], number: int, line: str) -> list[object]:
    value = row.get("hash_ids", [])
    if isinstance(value, list) and all(isinstance(item, int | str) for item in value):
        return value
    what, column = "a list of hashes in hash_ids", _column(line, "hash_ids")
    raise TraceError(path, what, shown(value), line=number, column=column)


def _column(line: str, name: str) -> int:
    """Where the value of a field begins, from 1; where it is missing, the end of the object."""
    # The last one counts where a name comes twice, for JSON too.
    found = list(re.finditer(rf'"{name}"\s*:\s*', line))
    return found[-1].end() + 1 if found else len(line.rstrip())
