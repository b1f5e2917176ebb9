"""Made-up load with seeds: the default of ``spillway simulate``, and shapes that find faults.

A rate is the product of a daily curve, noise that lasts a minute, bursts, a launch and an outage;
arrivals are Poisson around it. Where a figure is a measurement its source stands beside it; where
none is published it says "assumed", and a result that hangs on it says nothing about your load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.trace import SECONDS_PER_HOUR, Lengths, Trace
from spillway.sim.traces import lengths as mixes
from spillway.sim.traces.agent import AgentLoop, sessions
from spillway.sim.traces.building import BIN_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DAY_HOURS: Final = 24.0


@dataclass(frozen=True, slots=True)
class Daily:
    """The first two harmonics of a mean day, relative to its mean.

    Attributes:
        amplitudes: Of the 24 h and the 12 h wave.
        peak_hours: When each is highest.
    """

    amplitudes: tuple[float, float]
    peak_hours: tuple[float, float]

    def at(self, hours: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative rate at the hours of a day, never negative."""
        value = np.ones_like(hours)
        for number, (size, peak) in enumerate(
            zip(self.amplitudes, self.peak_hours, strict=True), start=1
        ):
            value += size * np.cos(2 * math.pi * number * (hours - peak) / _DAY_HOURS)
        return np.maximum(value, 0.0)


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of the rate beyond Poisson's: an Ornstein-Uhlenbeck process of its logarithm.

    Attributes:
        sigma: Its standard deviation.
        seconds: Its correlation time.
    """

    sigma: float
    seconds: float


# Fitted to the hourly means and to the deviations from the hour's mean (at 10, 60 and 300 s, the
# Poisson part taken off) of the conversation and the coding service in the Azure LLM inference
# trace 2024 (CC-BY-4.0; DynamoLLM, HPCA 2025): 7 and 4 days of counts per 10 s.
ROUND_THE_CLOCK: Final = Daily((0.18, 0.06), (13.4, 3.1))
OFFICE_HOURS: Final = Daily((0.82, 0.23), (18.5, 5.1))
CHAT_NOISE: Final = Noise(0.09, 50.0)
CODE_NOISE: Final = Noise(0.19, 30.0)
_FLAT: Final = Daily((0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Bursts:
    """Short waves on top: how often, how high, how long. All assumed.

    Attributes:
        per_hour: Mean number.
        height: Mean height over the rate around it, exponential.
        seconds: Mean length, exponential.
    """

    per_hour: float = 2.0
    height: float = 1.0
    seconds: float = 150.0


@dataclass(frozen=True, slots=True)
class Launch:
    """A jump that fades: a launch, a news item, a new customer. All assumed.

    Attributes:
        hour: When.
        factor: How high the rate jumps.
        rise_seconds: How fast.
        half_life_seconds: How it fades.
    """

    hour: float
    factor: float = 2.5
    rise_seconds: float = 180.0
    half_life_seconds: float = 5400.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Nothing arrives (something before us is down), then those who waited come back. Assumed.

    Attributes:
        hour: When.
        seconds: How long.
        rebound: How far above its level the rate is right after.
        fade_seconds: Time constant of its return.
    """

    hour: float
    seconds: float = 900.0
    rebound: float = 0.6
    fade_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load that can be made.

    Attributes:
        name: What it is called.
        about: A sentence for a person.
        mix: Of lengths, one of `lengths.MIX_NAMES`.
        mean_per_second: Mean rate, but for bursts, launch and outage.
        hours: Length.
        daily: Its daily curve.
        noise: Its noise.
        bursts: None: none.
        launch: None: none.
        outage: None: none.
        agents: Arrivals are the calls of such sessions; ``mix`` is then theirs.
    """

    name: str
    about: str
    mix: str = "chat"
    mean_per_second: float = 40.0
    hours: float = 24.0
    daily: Daily = ROUND_THE_CLOCK
    noise: Noise = CHAT_NOISE
    bursts: Bursts | None = None
    launch: Launch | None = None
    outage: Outage | None = None
    agents: AgentLoop | None = field(default=None)


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "day",
            "a day of chat in one region, with bursts and a launch at 14:00",
            daily=OFFICE_HOURS,
            bursts=Bursts(per_hour=0.5, height=0.6),
            launch=Launch(14.0, factor=1.6),
        ),
        Scenario("diurnal", "a day of chat from all over the world"),
        Scenario(
            "bursty",
            "a day of code completion with two bursts an hour",
            mix="code",
            daily=OFFICE_HOURS,
            noise=CODE_NOISE,
            bursts=Bursts(),
        ),
        Scenario(
            "agentic",
            "a day of agents that send their growing context 15 to 30 times",
            mix=mixes.AGENT,
            mean_per_second=8.0,
            daily=OFFICE_HOURS,
            agents=AgentLoop(),
        ),
        Scenario("launch", "six hours of chat with a jump to 2.5 times", hours=6, daily=_FLAT,
                 launch=Launch(2.0)),
        Scenario("outage", "six hours of chat, 15 minutes of silence and a rebound", hours=6,
                 daily=_FLAT, outage=Outage(3.0)),
    )
}  # fmt: skip
"""Scenarios by name."""
DEFAULT_SCENARIO: Final = "day"


def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        msg = f"scenario must be one of {', '.join(SCENARIOS)}, got {name!r}"
        raise ValueError(msg) from None


def generate(
    scenario: Scenario, *, seed: int = 0, days: float | None = None, lengths: Lengths | None = None
) -> Trace:
    """A trace; the same for the same scenario, seed and length.

    Args:
        scenario: What to make.
        seed: Of everything random.
        days: Instead of the scenario's own length.
        lengths: Instead of its mix; agents keep theirs.

    Raises:
        ValueError: ``days`` is not above 0.
    """
    if days is not None:
        scenario = replace(scenario, hours=days * _DAY_HOURS)
    if not 0 < scenario.hours < math.inf:
        msg = f"days must be a number above 0, got {scenario.hours / _DAY_HOURS:g}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    source = f"Made up, seed {seed}: {scenario.about}."
    rate = _rate(scenario, rng)
    if scenario.agents is not None:
        return _agents(scenario, scenario.agents, rate, source, rng)
    counts = rng.poisson(rate * BIN_SECONDS)
    return Trace(
        scenario.name,
        source,
        BIN_SECONDS,
        counts / BIN_SECONDS,
        lengths if lengths is not None else mixes.named(scenario.mix, seed=seed),
    )


def _rate(scenario: Scenario, rng: np.random.Generator) -> NDArray[np.float64]:
    """Expected requests per second of each bin."""
    bins = math.ceil(scenario.hours * SECONDS_PER_HOUR / BIN_SECONDS)
    at: NDArray[np.float64] = np.arange(bins, dtype=np.float64) * BIN_SECONDS
    rate = scenario.mean_per_second * scenario.daily.at(at / SECONDS_PER_HOUR)
    rate *= _noise(scenario.noise, len(at), rng)
    if scenario.bursts is not None:
        rate *= _bursts(scenario.bursts, at, rng)
    if scenario.launch is not None:
        rate *= _launch(scenario.launch, at)
    if scenario.outage is not None:
        rate *= _outage(scenario.outage, at)
    return rate


def _noise(noise: Noise, bins: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A factor with mean 1 for each bin."""
    keep = math.exp(-BIN_SECONDS / noise.seconds)
    shocks = rng.normal(0.0, noise.sigma * math.sqrt(1 - keep * keep), bins)
    level = rng.normal(0.0, noise.sigma)
    levels = np.empty(bins)
    for number, shock in enumerate(shocks.tolist()):
        level = keep * level + shock
        levels[number] = level
    return np.exp(levels - noise.sigma**2 / 2)


def _bursts(
    bursts: Bursts, at: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    factor = np.ones_like(at)
    span = at[-1] + BIN_SECONDS
    for _ in range(rng.poisson(bursts.per_hour * span / SECONDS_PER_HOUR)):
        begun, length = rng.uniform(0, span), rng.exponential(bursts.seconds)
        factor[(at >= begun) & (at < begun + length)] += rng.exponential(bursts.height)
    return factor


def _launch(launch: Launch, at: NDArray[np.float64]) -> NDArray[np.float64]:
    since = at - launch.hour * SECONDS_PER_HOUR
    rise = np.clip(since / launch.rise_seconds, 0.0, 1.0)
    fade = 0.5 ** (np.maximum(since - launch.rise_seconds, 0.0) / launch.half_life_seconds)
    return 1.0 + (launch.factor - 1.0) * rise * fade


def _outage(outage: Outage, at: NDArray[np.float64]) -> NDArray[np.float64]:
    since = at - outage.hour * SECONDS_PER_HOUR
    after = since - outage.seconds
    back = 1.0 + outage.rebound * np.exp(-np.maximum(after, 0.0) / outage.fade_seconds)
    return np.where(since < 0, 1.0, np.where(after < 0, 0.0, back))


def _agents(
    scenario: Scenario,
    loop: AgentLoop,
    rate: NDArray[np.float64],
    source: str,
    rng: np.random.Generator,
) -> Trace:
    """Sessions begin at the rate of calls over calls a session, some of them before the trace."""
    before = math.ceil(loop.longest_seconds / BIN_SECONDS)
    begins = np.concatenate((np.full(before, rate[0]), rate)) * BIN_SECONDS / loop.mean_calls
    counts = rng.poisson(begins)
    bins = np.repeat(np.arange(len(counts)) - before, counts)
    calls = sessions(loop, (bins + rng.random(len(bins))) * BIN_SECONDS, rng)
    end = len(rate) * BIN_SECONDS
    rows = slice(*np.searchsorted(calls.arrived_at, (0.0, end)).tolist())
    at = calls.arrived_at[rows]
    kept = replace(
        calls, arrived_at=at, lengths=calls.lengths.take(rows), session=calls.session[rows]
    )
    binned = np.bincount((at // BIN_SECONDS).astype(np.int64), minlength=len(rate))
    return Trace(scenario.name, source, BIN_SECONDS, binned / BIN_SECONDS, kept.lengths, kept)
