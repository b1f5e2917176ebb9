"""Weights in step with the overflow value, beside others who write the same routes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from spillway.adapters.kube.errors import Unavailable
from spillway.adapters.kube.routes import project_route
from spillway.api.names import OVERFLOW_ANNOTATION
from spillway.api.reasons import Reason
from spillway.controller.routes import Routes
from spillway.controller.runtime import Runtimes
from spillway.controller.steering import CONTEST_SECONDS
from spillway.controller.watches import InvalidPool
from spillway.core.overflow_value import NO_ALLOWANCE, OverflowValue, ProviderShare, to_json
from spillway.core.route import kept_weights

from . import fakes
from .fakes import NAMESPACE, Seams

if TYPE_CHECKING:
    from spillway.api.validation import InferencePool

WINDOW = 60.0


def burst(**changes: Any) -> dict[str, Any]:
    provider = {
        "name": "api",
        "price": {"inputPerMillion": "1", "outputPerMillion": "2"},
        "backendRef": {"name": "cloud"},
    }
    ref = {"name": "route", "rule": "chat", "local": "local"}
    return {"driver": "HTTPRoute", "routeRef": ref, "providers": [provider], **changes}


def value(fraction: float, until: float | None = None, **changes: Any) -> OverflowValue:
    shown = OverflowValue(
        version=1,
        epoch=1,
        until=time.time() + 45 if until is None else until,
        fraction=fraction,
        admit=None,
        allowance=NO_ALLOWANCE,
        providers=(ProviderShare("api", fraction),) if fraction else (),
        reason=Reason.SHORTAGE if fraction else Reason.COVERED,
    )
    return replace(shown, **changes)


class Setting:
    """A pool with a route that a gateway has accepted, and a clock that the test moves."""

    def __init__(self, **changes: Any) -> None:
        self.now = 1000.0
        self.leads = True
        self.seams = Seams()
        self.writer = self.seams.route_writer
        self.routes = Routes(
            writer=cast("Any", self.writer),
            watches=self.seams.watches,
            telemetry=self.seams.telemetry,
            may_write=lambda: self.leads,
            read_only=bool(changes.pop("read_only", False)),
            clock=lambda: self.now,
        )
        self.writer.routes["route"] = {
            "metadata": {
                "namespace": NAMESPACE,
                "name": "route",
                "uid": "route-uid",
                "resourceVersion": "1",
                "generation": 1,
            },
            "spec": {
                "rules": [
                    {
                        "name": "chat",
                        "backendRefs": [{"name": "local"}, {"name": "cloud", "weight": 0}],
                    }
                ]
            },
            "status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}]},
        }
        self.accept()
        self.pool = fakes.pool(**{"burst": burst(), **changes})
        self.runtime = Runtimes(lambda _: None).of(self.pool, 0.0)
        fakes.put(self.seams.watches, self.pool)
        self.show()

    @property
    def document(self) -> dict[str, Any]:
        return self.writer.routes["route"]

    def accept(self, status: str = "True") -> None:
        said = self.document["status"]["parents"][0]["conditions"][0]
        said.update(status=status, observedGeneration=self.document["metadata"]["generation"])

    def show(self) -> None:
        """The watch catches up."""
        fakes.put(self.seams.watches, project_route(self.document))

    def edit(self, *weights: int | None) -> None:
        """Somebody else changes the weights, and the watch shows it."""
        for ref, weight in zip(self.refs, weights, strict=True):
            ref["weight"] = weight
        self.touch()

    def touch(self) -> None:
        meta = self.document["metadata"]
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        self.show()

    @property
    def refs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document["spec"]["rules"][0]["backendRefs"]
        return found

    def weights(self) -> dict[str, int | None]:
        return {ref["name"]: ref.get("weight") for ref in self.refs}

    async def steer(self, told: OverflowValue | None, *, show: bool = True) -> None:
        self.runtime.overflow = told
        self.now += 1
        self.routes.steer([(self.pool, self.runtime)])
        await self.settle()
        if show:
            self.show()

    async def sweep(self) -> None:
        self.routes.sweep()
        await self.settle()
        self.show()

    async def settle(self) -> None:
        for task in list(self.routes._writing.values()):
            await task

    def facts(self, now: float = 10_000.0, pool: InferencePool | None = None) -> Any:
        return self.routes.facts(pool or self.pool, WINDOW, now)

    def written(self) -> int:
        return len(self.seams.journal.of("route"))


# Steering


async def test_weights_follow_the_value_and_are_not_written_twice() -> None:
    setting = Setting()
    await setting.steer(value(0.25))
    assert setting.weights() == {"local": 750, "cloud": 250}
    await setting.steer(value(0.25))
    await setting.steer(value(0.255))
    assert setting.written() == 1, "half a point is no change"
    await setting.steer(value(0.5), show=False)
    await setting.steer(value(0.5), show=False)
    assert setting.weights() == {"local": 500, "cloud": 500}
    assert setting.written() == 2, "the watch is behind our own write"


async def test_a_share_rises_at_once_falls_in_steps_and_ends_at_once() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    await setting.steer(value(0.45))
    await setting.steer(value(0.40))
    assert setting.weights()["cloud"] == 450, "the second step down waits"
    await setting.steer(value(0.7))
    assert setting.weights()["cloud"] == 700
    await setting.steer(value(0.0))
    assert setting.weights() == {"local": 1000, "cloud": 0}


async def test_a_value_that_has_lapsed_or_is_not_there_keeps_everything_local() -> None:
    for told in (None, value(0.5, until=time.time() - 1)):
        setting = Setting()
        await setting.steer(value(0.5))
        await setting.steer(told)
        assert setting.weights() == {"local": 1000, "cloud": 0}


async def test_a_conflict_is_decided_again_on_what_is_there() -> None:
    setting = Setting()
    setting.document["metadata"]["resourceVersion"] = "2"
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 0
    assert setting.seams.metric("spillway_api_writes_total", kind="route", result="conflict") == 1
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 500


async def test_a_failed_write_is_tried_again_a_little_later() -> None:
    setting = Setting()
    setting.writer.failures["route"] = Unavailable(503, "ServiceUnavailable", "busy")
    await setting.steer(value(0.5))
    del setting.writer.failures["route"]
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 0
    setting.now += 5
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 500
    assert setting.seams.metric("spillway_api_writes_total", kind="route", result="failed") == 1


@pytest.mark.parametrize(
    "changes", [{"mode": "Advise"}, {"mode": "Paused"}, {"burst": fakes.burst_spec()}]
)
async def test_only_an_active_pool_with_this_driver_is_weighed(changes: dict[str, Any]) -> None:
    setting = Setting(**changes)
    await setting.steer(value(0.5))
    assert setting.written() == 0


async def test_neither_read_only_nor_a_standby_writes() -> None:
    read_only, standby = Setting(read_only=True), Setting()
    standby.leads = False
    for setting in (read_only, standby):
        await setting.steer(value(0.5))
        await setting.sweep()
        assert setting.written() == 0


# Foreign edits


async def test_a_foreign_edit_of_weights_is_set_back_and_of_structure_adopted() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    setting.refs.reverse()
    setting.refs.append({"name": "canary", "weight": 0})
    setting.document["spec"]["rules"].insert(0, {"name": "stay", "backendRefs": [{"name": "x"}]})
    setting.document["spec"]["rules"][1]["backendRefs"][0]["weight"] = 1
    setting.touch()
    await setting.steer(value(0.5))
    refs = setting.document["spec"]["rules"][1]["backendRefs"]
    assert {r["name"]: r["weight"] for r in refs} == {"cloud": 500, "local": 500, "canary": 0}
    assert setting.facts().problem is None


async def test_the_third_edit_within_five_minutes_is_a_contest_and_we_yield() -> None:
    setting = Setting()
    for _ in range(3):
        await setting.steer(value(0.5))
        setting.edit(900, 100)
    await setting.steer(value(0.5))
    assert setting.weights() == {"local": 900, "cloud": 100}
    facts = setting.facts()
    assert facts.problem is Reason.ROUTE_CONTESTED
    assert "somebody else set the weights of HTTPRoute serving/route 3 times" in facts.message
    setting.now += CONTEST_SECONDS
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 500
    assert setting.facts().problem is None


async def test_edits_far_apart_are_no_contest() -> None:
    setting = Setting()
    for _ in range(6):
        await setting.steer(value(0.5))
        setting.edit(900, 100)
        setting.now += CONTEST_SECONDS / 2 + 1
    await setting.steer(value(0.5))
    assert setting.weights()["cloud"] == 500


# What the core is told


def test_other_drivers_have_no_route() -> None:
    assert Setting(burst=fakes.burst_spec()).facts() is None


def test_a_route_that_is_not_there_is_a_problem_that_says_what_was_looked_for() -> None:
    setting = Setting(burst=burst(routeRef={"name": "elsewhere", "local": "local"}))
    facts = setting.facts()
    assert facts.problem is Reason.ROUTE_NOT_FOUND
    assert facts.message == "there is no HTTPRoute serving/elsewhere"


async def test_nothing_is_known_and_nothing_changed_before_the_first_list() -> None:
    setting = Setting(burst=burst(routeRef={"name": "elsewhere", "local": "local"}))
    for informer in setting.seams.watches.routes.informers:
        informer.synced.clear()
    assert setting.facts().problem is None
    await setting.steer(value(0.5))
    assert setting.written() == 0


def test_a_cluster_without_the_gateway_api_says_so() -> None:
    setting = Setting(burst=burst(routeRef={"name": "elsewhere", "local": "local"}))
    for informer in setting.seams.watches.routes.informers:
        informer.last_error = "the server has no httproutes"
    assert "(the server has no httproutes)" in setting.facts().message


def test_a_route_that_a_gateway_refuses_can_not_carry_burst() -> None:
    setting = Setting()
    setting.accept("False")
    setting.show()
    assert setting.facts().problem is Reason.ROUTE_NOT_ACCEPTED


def test_a_route_that_no_gateway_has_taken_can_not_carry_burst() -> None:
    setting = Setting()
    setting.document["status"] = {}
    setting.touch()
    facts = setting.facts()
    assert facts.problem is Reason.ROUTE_NOT_ACCEPTED
    assert "no gateway has accepted HTTPRoute serving/route" in facts.message


async def test_a_gateway_that_is_a_generation_behind_is_waited_for() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    setting.document["metadata"]["generation"] = 2
    setting.touch()
    assert setting.facts().problem is None


async def test_a_new_leader_keeps_the_last_ones_weights_until_it_has_a_value_of_its_own() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    note = {OVERFLOW_ANNOTATION: to_json(value(0.5))}
    setting.pool = fakes.pool(burst=burst(), annotations=note)
    setting.runtime = Runtimes(lambda _: None).of(setting.pool, 0.0)
    await setting.steer(None)
    assert setting.weights()["cloud"] == 500


async def test_the_share_that_left_is_the_mean_over_the_window_of_what_was_confirmed() -> None:
    setting = Setting()
    assert setting.facts(0.0).cloud_share is None, "not known throughout the window"
    assert setting.facts(WINDOW).cloud_share == 0
    await setting.steer(value(0.5))
    setting.facts(WINDOW)
    assert setting.facts(1.5 * WINDOW).cloud_share == pytest.approx(0.25)
    assert setting.facts(2 * WINDOW).cloud_share == pytest.approx(0.5)
    setting.document["metadata"]["generation"] = 2
    setting.touch()
    setting.facts(2.5 * WINDOW)
    assert setting.facts(3 * WINDOW).cloud_share is None, "no gateway has confirmed these weights"


# Giving back


async def test_a_deleted_pools_route_is_given_back() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    fakes.drop(setting.seams.watches, setting.pool)
    await setting.sweep()
    assert setting.weights() == {"local": None, "cloud": 0}
    assert kept_weights(project_route(setting.document)) == {}
    assert setting.routes._steerings == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "Paused"},
        {"burst": fakes.burst_spec()},
        {"burst": burst(routeRef={"name": "other", "rule": "chat", "local": "local"})},
        {"burst": burst(routeRef={"name": "route", "rule": "code", "local": "local"})},
    ],
)
async def test_a_pool_that_has_no_claim_any_more_gives_its_route_back(
    changes: dict[str, Any],
) -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    fakes.put(setting.seams.watches, fakes.pool(**{"burst": burst(), **changes}))
    await setting.sweep()
    assert setting.weights() == {"local": None, "cloud": 0}


async def test_an_active_pool_keeps_its_weights_and_so_does_one_that_can_not_be_read() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    await setting.sweep()
    assert setting.weights()["cloud"] == 500
    fakes.drop(setting.seams.watches, setting.pool)
    fakes.put(setting.seams.watches, InvalidPool(NAMESPACE, "pool", "u", 1, "wrong", {}, "1"))
    await setting.sweep()
    assert setting.weights()["cloud"] == 500


async def test_nothing_is_given_back_while_the_watches_are_old() -> None:
    setting = Setting()
    await setting.steer(value(0.5))
    fakes.drop(setting.seams.watches, setting.pool)
    for informer in setting.seams.watches.pools.informers:
        informer.last_contact = None
    await setting.sweep()
    assert setting.weights()["cloud"] == 500


async def test_a_write_under_way_is_not_begun_again_and_ends_with_the_operator() -> None:
    setting = Setting()
    setting.writer.hangs.add("route")
    setting.runtime.overflow = value(0.5)
    setting.routes.steer([(setting.pool, setting.runtime)])
    setting.routes.steer([(setting.pool, setting.runtime)])
    assert len(setting.routes._writing) == 1
    await setting.routes.close()
    assert setting.routes._writing == {}
