"""Prompt and answer lengths of a mix: chat, code, rag (of `sim.workload`) and agent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.trace import Lengths
from spillway.sim.traces.agent import AgentLoop, sessions
from spillway.sim.workload import MIXES, mix_named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.workload import TokenMix

AGENT: Final = "agent"
MIX_NAMES: Final = (*MIXES, AGENT)
"""Mixes that lengths can be drawn from."""
_ROWS: Final = 20_000


def named(name: str, *, seed: int = 0, rows: int = _ROWS) -> Lengths:
    """Lengths of the mix of that name.

    Args:
        name: One of `MIX_NAMES`.
        seed: The same seed gives the same rows.
        rows: How many.

    Raises:
        ValueError: There is no such mix; the message lists what there is.
    """
    rng = np.random.default_rng(seed)
    if name == AGENT:
        loop = AgentLoop()
        calls = sessions(loop, np.zeros(rows // loop.calls[0] + 1), rng)
        return calls.lengths.take(rng.permutation(len(calls))[:rows])
    if name not in MIXES:
        msg = f"mix must be one of {', '.join(MIX_NAMES)}, got {name!r}"
        raise ValueError(msg)
    return drawn(mix_named(name), rng, rows)


def drawn(mix: TokenMix, rng: np.random.Generator, rows: int) -> Lengths:
    """Rows of a mix: prompt and answer lognormal and independent, as `TokenMix.draw` has them."""
    prompt = _lognormal(rng, mix.prompt_mean, mix.prompt_sigma, mix.max_prompt_tokens, rows)
    output = _lognormal(rng, mix.output_mean, mix.output_sigma, mix.max_output_tokens, rows)
    cached = np.minimum(prompt - 1, (prompt * mix.prefix_hit_ratio).astype(np.int64))
    return Lengths(prompt, output, cached)


def _lognormal(
    rng: np.random.Generator, mean: float, sigma: float, most: int, rows: int
) -> NDArray[np.int64]:
    # The mean of a lognormal is exp(mu + sigma^2 / 2).
    values = rng.lognormal(math.log(mean) - sigma * sigma / 2, sigma, rows)
    return np.clip(np.round(values), 1, most).astype(np.int64)
