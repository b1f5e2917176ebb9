"""Loads, worlds and scalers with round figures for tests of the engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.conditions import Conditions, LeadTime
from spillway.sim.profiles import ReplicaProfile
from spillway.sim.scaler import Asked, Seen, Told
from spillway.sim.trace import Lengths, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: A step takes 10 ms and 1 ms for each sequence; prompts are free. So 50 sequences step in 60 ms.
BY_HAND = ReplicaProfile(
    name="by-hand",
    gpu="GPU",
    gpus=1,
    base_seconds=0.010,
    per_sequence_seconds=0.001,
    per_context_token_seconds=0.0,
    per_prefill_token_seconds=0.0,
    per_attention_pair_seconds=0.0,
    kv_capacity_tokens=10_000_000,
    max_num_seqs=100,
    max_num_batched_tokens=1_000_000,
)


def same_lengths(prompt: int = 1000, output: int = 100) -> Lengths:
    """Every request alike."""
    return Lengths.of(np.array([prompt] * 4), np.array([output] * 4))


def trace(
    rates: Sequence[float], bin_seconds: float = 60.0, lengths: Lengths | None = None
) -> Trace:
    """A load by bins."""
    return Trace(
        "test", "made up", bin_seconds, np.array(rates, dtype=np.float64), lengths or same_lengths()
    )


def world(**changes: Any) -> Conditions:
    """$3.60 a replica-hour ($0.001 a second), exactly 60 s to start, 30 s to drain; a mere flow."""
    values: dict[str, Any] = {
        "profile": BY_HAND,
        "gpu_usd_per_replica_hour": 3.6,
        "lead": LeadTime(60.0, 0.0),
        "scatter": False,
    }
    return Conditions(**(values | changes))


@dataclass
class Scripted:
    """A scaler that asks for what a script says, in each of its configurations."""

    replicas: Sequence[Callable[[float], int]]
    fraction: float = 0.0
    admit: float = float("inf")
    name: str = "scripted"
    period_seconds: float = 15.0
    seen: list[Seen] = field(default_factory=list)
    told: Told | None = None

    @property
    def configurations(self) -> int:
        return len(self.replicas)

    def describe(self, configuration: int) -> str:
        return f"script {configuration}"

    def begin(self, told: Told) -> None:
        self.told = told
        self.seen.clear()

    def decide(self, seen: Seen) -> Asked:
        self.seen.append(seen)
        worlds = len(self.replicas)
        return Asked(
            np.array([script(seen.now) for script in self.replicas]),
            np.full(worlds, self.fraction),
            np.full(worlds, self.admit),
        )


def steady(*replicas: int, **changes: Any) -> Scripted:
    """A scaler that always asks for the same; one configuration for each number."""

    def always(number: int) -> Callable[[float], int]:
        return lambda _: number

    return Scripted([always(number) for number in replicas], **changes)
