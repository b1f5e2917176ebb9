"""Which requests leave first, and what that costs: dollars against GPU time freed.

A router that sees prompts sends those away first that cost the fewest API dollars for a GPU-second
freed. It knows the prompt's length and what prompts of that length were answered with on average,
not how long this answer will be; so requests are put in order by what is expected, and what leaves
is counted as it turns out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spillway.sim.trace import Lengths
from spillway.sim.truth import gpu_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.conditions import Api
    from spillway.sim.profiles import ReplicaProfile

    Floats = NDArray[np.float64]

#: Where the router chooses who leaves, the cheapest begin to at this share of its bound on requests
#: in flight and all do at the bound; in between, the share of GPU time that leaves rises in
#: proportion. So the split needs no state and no estimate of the load, and what is in flight
#: scatters by no more than the root of the window (in requests).
FIRST_LEAVE: Final = 0.97
#: Prompts of about the same length, by quantiles: few enough that each mean is one of hundreds of
#: requests in an hour of a public trace.
_CLASSES: Final = 32
_POINTS: Final = 256
#: Quadrature over a normal scatter, and how many of its standard deviations matter.
_NODES, _SUMS = np.polynomial.hermite_e.hermegauss(21)
_WEIGHTS: Final = _SUMS / _SUMS.sum()
_REACH: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class BurstOrder:
    """What leaves with each share of the GPU time freed; cumulative, cheapest first.

    Attributes:
        freed: Share of all requests' GPU time, 0 to what may leave; ascending, shape (points,).
        requests: Share of all requests that then leave.
        usd: What they cost, in US dollars for one request that arrives (of any kind).
        edges: Prompt lengths between the classes; shape (classes - 1,).
        ranks: Of each class, the shares of GPU time freed when its first and when its last request
            leave; what a router goes by; shape (classes, 2).
        mean_usd: Of a request drawn from all that may leave.
        mean_freed: Its GPU time, over that of a mean request.
        eligible: Share of all requests that may leave: prompts within the API's context limit.
    """

    freed: Floats
    requests: Floats
    usd: Floats
    edges: Floats
    ranks: Floats
    mean_usd: float
    mean_freed: float
    eligible: float


def burst_order(
    profile: ReplicaProfile, lengths: Lengths, api: Api, *, window_requests: float = math.inf
) -> BurstOrder:
    """The order for requests of these lengths at the API's prices.

    Args:
        profile: Says how long a GPU works for a request.
        lengths: A sample of the requests.
        api: Its prices and context limit.
        window_requests: Requests in flight between where a router begins to send away and where it
            sends everything: what is in flight scatters by the root of it, so the share that leaves
            scatters by one over the root, and dearer requests leave at times than on average would
            have to. inf: a router that knows the share exactly.
    """
    prompt, output = lengths.prompt_tokens, lengths.output_tokens
    usd = _usd(prompt, output, api)
    gpu = gpu_seconds(profile, lengths)
    edges = np.unique(np.quantile(prompt, np.linspace(0, 1, _CLASSES + 1)[1:-1]))
    kind = np.searchsorted(edges, prompt, side="right")
    expected = _expected_price(profile, lengths, api, kind, len(edges) + 1)
    may_leave = prompt <= api.max_context_tokens
    rows = np.flatnonzero(may_leave)
    rows = rows[np.argsort(expected[kind[rows]], kind="stable")]
    count = len(prompt)
    freed = np.concatenate(([0.0], np.cumsum(gpu[rows]) / gpu.sum()))
    cost = np.concatenate(([0.0], np.cumsum(usd[rows]) / count))
    shares = np.arange(len(rows) + 1) / count
    points = np.unique(np.linspace(0, len(rows), _POINTS).astype(np.int64))
    curve = freed[points], shares[points], cost[points]
    if math.isfinite(window_requests):
        curve = _unsteady(*curve, 1 / math.sqrt(max(1.0, window_requests)))
    return BurstOrder(
        freed=curve[0],
        requests=curve[1],
        usd=curve[2],
        edges=edges.astype(np.float64),
        ranks=_ranks(expected, np.bincount(kind, weights=gpu * may_leave, minlength=len(expected))),
        mean_usd=float(usd[rows].mean()) if len(rows) else 0.0,
        mean_freed=float(gpu[rows].mean() / gpu.mean()) if len(rows) else 0.0,
        eligible=len(rows) / count,
    )


def _unsteady(
    freed: Floats, requests: Floats, usd: Floats, spread: float
) -> tuple[Floats, Floats, Floats]:
    """The same curve where the share that leaves scatters: its means, by the mean share freed."""
    most = freed[-1]
    centre = np.linspace(-_REACH * spread, most + _REACH * spread, _POINTS)
    share = np.clip(centre[:, None] + spread * _NODES, 0.0, most)
    means = [np.interp(share, freed, values) @ _WEIGHTS for values in (freed, requests, usd)]
    # The ends are exact: nothing and everything.
    for mean, values in zip(means, (freed, requests, usd), strict=True):
        mean[0], mean[-1] = 0.0, values[-1]
    return means[0], means[1], means[2]


def _ranks(price: Floats, gpu: NDArray[Any]) -> Floats:
    """Where each class lies on the axis of GPU time freed, cheapest first; shape (classes, 2)."""
    order = np.argsort(price, kind="stable")
    ends = np.empty_like(gpu)
    ends[order] = np.cumsum(gpu[order]) / max(float(gpu.sum()), 1e-12)
    return np.column_stack((ends - gpu / max(float(gpu.sum()), 1e-12), ends))


def _usd(
    prompt: NDArray[np.int64] | Floats, output: NDArray[np.int64] | Floats, api: Api
) -> Floats:
    total = prompt * api.input_usd_per_million + output * api.output_usd_per_million
    return np.asarray(total / 1e6, dtype=np.float64)


def _expected_price(
    profile: ReplicaProfile,
    lengths: Lengths,
    api: Api,
    kind: NDArray[np.int64],
    classes: int,
) -> Floats:
    """API dollars for a GPU-second of each class of prompts, by its means; shape (classes,)."""
    members = np.maximum(1, np.bincount(kind, minlength=classes))

    def mean(values: NDArray[np.int64]) -> NDArray[np.int64]:
        total = np.bincount(kind, weights=values, minlength=classes)
        return np.maximum(1, np.rint(total / members)).astype(np.int64)

    prompt, output = mean(lengths.prompt_tokens), mean(lengths.output_tokens)
    cached = np.minimum(mean(lengths.cached_tokens), prompt - 1)
    if not lengths.cached_tokens.any():
        cached = np.zeros_like(prompt)
    typical = Lengths(prompt, output, cached)
    price = _usd(prompt, output, api) / gpu_seconds(profile, typical)
    return np.asarray(price, dtype=np.float64)
