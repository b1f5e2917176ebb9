"""Small worlds for the emulator's tests: a clock set by hand, pods, pools, overflow values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spillway.api.names import ROLE_LABEL
from tests.e2e.rig.emulator.clock import Clock
from tests.e2e.rig.emulator.fleet import Fleet
from tests.e2e.rig.emulator.pod import PodView
from tests.e2e.rig.emulator.router import OverflowValue
from tests.e2e.rig.emulator.settings import PoolSettings

if TYPE_CHECKING:
    from tests.e2e.rig.emulator.pool import Pool

T0 = 1_700_000_000.0
KEY = "serving/llama-8b"


class HandClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.time = T0

    def now(self) -> float:
        return self.time

    def wall(self, simulated: float) -> float:
        return simulated


def settings(**changes: Any) -> PoolSettings:
    return PoolSettings.model_validate(
        {
            "namespace": "serving",
            "name": "llama-8b",
            "selector": {"app": "llama-8b"},
            "model_name": "meta-llama/Llama-3.1-8B-Instruct",
            "providers": [
                {"name": "together", "input_usd_per_million": 0.18, "output_usd_per_million": 0.18}
            ],
            **changes,
        }
    )


def view(name: str, role: str = "serving", **changes: Any) -> PodView:
    fields: dict[str, Any] = {
        "namespace": "serving",
        "name": name,
        "uid": f"uid-{name}",
        "labels": {"app": "llama-8b", ROLE_LABEL: role},
        "ready": True,
        "node": "node-0",
        "container": "vllm",
        "gpus": 1,
    }
    return PodView(**{**fields, **changes})


def value(**changes: Any) -> OverflowValue:
    fields: dict[str, Any] = {
        "version": 1,
        "epoch": 1,
        "until": datetime.fromtimestamp(T0 + 45, UTC).isoformat(),
        "fraction": 0.0,
        "admit": None,
        "allowance": {"requests": 1_000_000, "usd": 1_000_000},
        "providers": [{"name": "together", "fraction": 1}],
        "reason": "Test",
    }
    return OverflowValue.model_validate({**fields, **changes})


class World:
    """A fleet with one pool and a clock that is moved by hand."""

    def __init__(self, **changes: Any) -> None:
        self.clock = HandClock()
        self.fleet = Fleet(self.clock)
        self.pool: Pool = self.fleet.add(settings(**changes))

    def observe(self, *views: PodView) -> None:
        self.fleet.observe(KEY, views)

    def run(self, seconds: float, step: float = 0.1) -> None:
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + step)
            self.fleet.tick()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.fleet.state()["pools"][KEY]
        return found
