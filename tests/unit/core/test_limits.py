from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from spillway.api.reasons import Reason
from spillway.core.facts import Contention, MissingData, PodPhase

from .pools import Pool, burst, pod, reasons, spec, variant

QUICK = {"persistence": "0s", "releaseWindow": "0s", "maxStepDown": 100}


def settled(seconds: float = 1200, **changes: Any) -> Pool:
    pool = Pool(**changes)
    pool.run(seconds)
    return pool


def test_persistence_waits_before_adding_what_burst_carries() -> None:
    scaling = {"persistence": "2m"}
    pool = settled(spec=spec(burst=burst(), scaling=scaling), rps=8.0)
    assert pool.replicas == 1
    pool.rps = 60.0
    decisions = pool.run(300)
    wanted = next(i for i, d in enumerate(decisions) if d.proposed > 1)
    added = next(i for i, d in enumerate(decisions) if d.desired > 1)
    assert (added - wanted) * 15 == 120
    assert Reason.PERSISTENCE in reasons(decisions[wanted])


def test_a_spike_shorter_than_the_persistence_adds_nothing() -> None:
    pool = settled(spec=spec(burst=burst(), scaling={"persistence": "4m"}), rps=8.0)
    decisions = pool.run(900, lambda at: 25.0 if at < 60 else 8.0)
    assert max(d.proposed for d in decisions) > 1
    assert {d.desired for d in decisions} == {1}


@pytest.mark.parametrize("case", ["no burst", "no budget", "no price"])
def test_without_burst_replicas_are_added_at_once(case: str) -> None:
    section = {"no burst": None, "no budget": burst(), "no price": burst(input_usd=None)}[case]
    pool = settled(spec=spec(burst=section), rps=8.0, budget_left=case != "no budget")
    pool.rps = 90.0
    for decision in pool.run(120):
        assert Reason.PERSISTENCE not in reasons(decision)
        assert decision.desired == max(1, decision.proposed)


def test_what_may_not_leave_is_not_waited_for() -> None:
    pool = settled(spec=spec(burst=burst(maxFraction="0.2")), rps=8.0)
    for decision in pool.run(120, lambda _: 90.0):
        assert decision.desired >= 0.8 * decision.proposed


def test_what_the_providers_rate_limits_keep_here_is_added_at_once_and_the_rest_later() -> None:
    limited = burst(provider={"limits": {"requestsPerMinute": 1200}})  # 20 requests per second
    # Seven times the load would be a runaway.
    guard = {"mode": "Off"}
    pool = settled(spec=spec(burst=limited, scaling={"persistence": "4m"}, guard=guard), rps=8.0)
    pool.rps = 60.0
    decisions = pool.run(420)
    begin = decisions[0].at
    first = next(d for d in decisions if d.desired >= 4)
    assert first.desired < first.proposed, "40 of 60 requests per second must stay"
    assert first.at - begin <= 60, "as soon as the load is known to be another one"
    assert Reason.PERSISTENCE in reasons(first)
    assert pool.replicas == decisions[-1].proposed


def test_replicas_go_after_the_release_window_and_one_at_a_time() -> None:
    pool = settled(spec=spec(scaling={"releaseWindow": "5m"}), rps=48.0)
    assert pool.replicas == 5
    decisions = pool.run(1800, lambda _: 8.0)
    superfluous = next(i for i, d in enumerate(decisions) if d.proposed < 5)
    first = next(i for i, d in enumerate(decisions) if d.desired < 5)
    assert (first - superfluous) * 15 >= 300
    assert Reason.RELEASE_WINDOW in reasons(decisions[superfluous])
    steps = [a.desired - b.desired for a, b in pairwise(decisions)]
    assert max(steps) == 1


def test_the_release_window_is_the_lead_time_and_30_seconds_unless_set() -> None:
    pool = settled(rps=48.0)
    assert pool.memory.lead_times.lead_seconds == 120
    decisions = pool.run(1800, lambda _: 8.0)
    superfluous = next(i for i, d in enumerate(decisions) if d.proposed < 5)
    first = next(i for i, d in enumerate(decisions) if d.desired < 5)
    assert (first - superfluous) * 15 >= 150


def test_returning_demand_within_the_window_keeps_the_replicas() -> None:
    pool = settled(spec=spec(scaling={"releaseWindow": "10m"}), rps=48.0)
    decisions = pool.run(600, lambda at: 20.0 if at < 300 else 48.0)
    assert min(d.proposed for d in decisions) < 5
    assert min(d.desired for d in decisions) == 5


def test_step_limits_bound_one_decision() -> None:
    pool = settled(spec=spec(scaling={**QUICK, "maxStepUp": 2, "maxStepDown": 3}), rps=8.0)
    up = pool.run(600, lambda _: 95.0)
    assert max(b.desired - a.desired for a, b in pairwise(up)) == 2
    assert any(Reason.STEP_LIMIT in reasons(d) for d in up)
    pool.run(3600, lambda _: 95.0)
    stronger = [variant(rps="40")]
    pool.spec = spec(scaling={**QUICK, "maxStepUp": 2, "maxStepDown": 3}, variants=stronger)
    down = pool.run(300)
    assert max(a.desired - b.desired for a, b in pairwise(down)) == 3


def test_an_adopted_target_loses_nothing_for_ten_minutes() -> None:
    pool = Pool(spec=spec(scaling=QUICK), replicas=6, owned=False, rps=8.0)
    decisions = pool.run(900)
    assert {d.desired for d in decisions[:40]} == {6}
    assert Reason.ADOPTING in reasons(decisions[20])
    assert decisions[41].desired < 6


def test_a_target_adopted_above_max_is_held_then_brought_to_max() -> None:
    limited = spec(replicas={"floor": 1, "max": 4}, scaling=QUICK)
    pool = Pool(spec=limited, replicas=7, owned=False, rps=38.0)
    decisions = pool.run(660)
    assert all(d.desired == 4 for d in decisions), "what is asked for is never above max"
    assert all(d.hold for d in decisions[:40]), "but nothing goes while adoption lasts"
    assert not any(d.hold for d in decisions[40:])


def test_what_was_added_to_an_adopted_target_may_go_before_the_ten_minutes_are_over() -> None:
    pool = Pool(spec=spec(scaling=QUICK), replicas=3, owned=False, rps=22.0)
    pool.run(60)
    assert pool.replicas == 3
    pool.run(120, lambda _: 50.0)
    assert pool.replicas > 3
    decisions = pool.run(360, lambda _: 2.0)
    assert decisions[-1].desired == 3, "the three that were found stay"
    assert Reason.ADOPTING in reasons(decisions[-1])


def test_a_target_of_our_own_is_not_adopted() -> None:
    pool = Pool(spec=spec(scaling=QUICK), replicas=6, owned=True, rps=8.0)
    assert not any(Reason.ADOPTING in reasons(d) for d in pool.run(60))


def test_kubectl_scale_by_hand_changes_no_decision() -> None:
    pool = settled(rps=18.0)
    before = pool.step().desired
    pool.target_changes = {"spec_replicas": 9}
    assert pool.step().desired == before
    pool.target_changes = {"spec_replicas": 0}
    assert pool.step().desired == before


def waiting_pod(pool: Pool, seconds: float) -> None:
    since = pool.now - seconds
    pool.extra_pods = (pod("waits", None, phase=PodPhase.UNSCHEDULABLE, since=since),)


def test_a_gpu_shortage_does_not_cascade_and_takes_nothing_away() -> None:
    pool = settled(rps=28.0)
    assert pool.step().desired == 3
    waiting_pod(pool, seconds=301)
    pool.rps = 90.0
    decisions = pool.run(300)
    assert {d.desired for d in decisions} == {3}
    assert all(d.shortage for d in decisions)
    assert Reason.GPU_SHORTAGE in reasons(decisions[-1])
    assert decisions[-1].proposed > 3
    pool.extra_pods = ()
    assert pool.step().desired > 3


def test_a_pod_that_waits_no_longer_than_a_node_takes_is_starting_not_short() -> None:
    pool = settled(rps=28.0)
    waiting_pod(pool, seconds=200)
    pool.rps = 90.0
    decision = pool.run(60)[-1]
    assert not decision.shortage
    assert decision.desired > 3


def test_nothing_goes_during_a_rollout() -> None:
    pool = settled(spec=spec(scaling=QUICK), rps=48.0)
    pool.target_changes = {"rolling_out": True}
    decisions = pool.run(1800, lambda _: 8.0)
    assert {d.desired for d in decisions} == {5}
    assert all(d.hold for d in decisions)
    assert Reason.ROLLOUT in reasons(decisions[-1])
    pool.target_changes = {}
    assert pool.step().desired < 5


def test_nothing_goes_while_demand_is_a_lower_bound() -> None:
    pool = settled(spec=spec(scaling=QUICK, burst=burst()), rps=48.0, gateway=False)
    before = pool.step().desired
    pool.overflow_fraction = 0.5
    decisions = pool.run(1800, lambda _: 8.0)
    assert {d.desired for d in decisions} == {before}


def test_the_classic_rule_does_not_take_what_burst_has_emptied_for_idle() -> None:
    classic = spec(policy="Utilization", burst=burst())
    idle = {"gpu_utilization": 0.1, "running": 0.0}
    pool = Pool(spec=classic, replicas=4, gateway=False, overflow_fraction=0.5, load_changes=idle)
    decisions = pool.run(900)
    assert {d.desired for d in decisions} == {4}
    assert Reason.LOWER_BOUND in reasons(decisions[-1])


def test_burst_that_hides_demand_does_not_stop_the_scale_up_that_ends_it() -> None:
    """Without a gateway, burst takes away the very load that called for replicas."""
    scaling = {"persistence": "2m"}
    pool = settled(spec=spec(scaling=scaling, burst=burst()), rps=18.0, gateway=False)
    assert pool.replicas == 2
    pool.run(90, lambda _: 60.0)
    assert pool.replicas == 2
    pool.overflow_fraction = 0.6  # of 60 requests per second, the replicas now see 24
    assert max(d.desired for d in pool.run(300, lambda _: 24.0)) > 2


NO_SAMPLES = {"sampled_at": 0.0}


def test_without_data_the_number_stays_and_nothing_may_go() -> None:
    pool = settled(spec=spec(scaling=QUICK), rps=48.0)
    pool.load_changes, pool.gateway = NO_SAMPLES, False
    decisions = pool.run(3600)
    assert {d.desired for d in decisions} == {5}
    assert all(d.hold and Reason.NO_DATA in reasons(d) for d in decisions)


def test_windows_begin_anew_after_an_outage() -> None:
    pool = settled(spec=spec(scaling={"releaseWindow": "5m"}), rps=48.0)
    pool.run(270, lambda _: 8.0)
    pool.load_changes = NO_SAMPLES
    pool.run(60)
    pool.load_changes = {}
    assert {d.desired for d in pool.run(285)} == {5}
    assert pool.run(120)[-1].desired < 5


def test_a_missing_signal_lets_replicas_be_added_but_none_go() -> None:
    pool = settled(spec=spec(scaling=QUICK), rps=28.0)
    pool.missing = (MissingData("vllm:num_requests_waiting", "nothing"),)
    assert {d.desired for d in pool.run(1800, lambda _: 8.0)} == {3}
    assert pool.run(600, lambda _: 48.0)[-1].desired >= 5


def test_the_floor_holds_without_data() -> None:
    pool = Pool(spec=spec(replicas={"floor": 4, "max": 9}), replicas=1, load_changes=NO_SAMPLES)
    decision = pool.step()
    assert decision.desired == 4
    assert reasons(decision)[-1] is Reason.FLOOR


def test_a_contested_target_is_held_and_not_written() -> None:
    pool = settled(rps=48.0)
    other = Contention("HorizontalPodAutoscaler", "hpa")
    pool.target_changes = {"contention": other}
    for rps in (8.0, 95.0):
        pool.rps = rps
        decision = pool.run(600)[-1]
        assert decision.desired == 5
        assert decision.hold
        assert not decision.write
        assert "HorizontalPodAutoscaler hpa" in str(decision)


def test_what_somebody_else_asked_for_is_where_it_goes_on_and_is_adopted() -> None:
    pool = settled(spec=spec(scaling=QUICK), rps=8.0)
    assert pool.replicas == 1
    pool.target_changes = {"contention": Contention("HorizontalPodAutoscaler", "hpa")}
    pool.step()
    pool.replicas = 6
    assert pool.step().desired == 6
    pool.target_changes, pool.owned = {}, False
    decisions = pool.run(900)
    assert {d.desired for d in decisions[:40]} == {6}
    assert decisions[-1].desired == 1


def test_what_a_contested_target_should_have_is_news_once() -> None:
    pool = Pool(spec=spec(replicas={"floor": 4, "max": 9}), replicas=2, owned=False)
    pool.target_changes = {"contention": Contention("HorizontalPodAutoscaler", "hpa")}
    assert pool.step().changed
    assert not any(decision.changed for decision in pool.run(60))


def test_a_target_that_does_not_exist_is_waited_for() -> None:
    pool = settled(rps=48.0)
    pool.target_changes = {"exists": False}
    gone = pool.run(60)[-1]
    assert not gone.write
    assert Reason.TARGET_NOT_FOUND in reasons(gone)
    assert gone.desired == 5
    pool.target_changes = {"spec_replicas": 1, "owned": False}
    assert pool.step().desired >= 5, "a target that comes back is asked for what was needed"


def test_max_is_the_most() -> None:
    decision = settled(spec=spec(replicas={"floor": 1, "max": 3}), rps=95.0).step()
    assert decision.desired == 3
    assert decision.proposed > 3
    assert reasons(decision)[-1] is Reason.MAX


@pytest.mark.parametrize(
    ("mode", "read_only", "reason"),
    [
        ("Paused", False, Reason.PAUSED),
        ("Advise", False, Reason.ADVISE),
        ("Active", True, Reason.READ_ONLY),
    ],
)
def test_where_only_looking_is_allowed_the_number_is_computed_and_not_written(
    mode: str, *, read_only: bool, reason: Reason
) -> None:
    pool = settled(spec=spec(scaling=QUICK), rps=28.0)
    pool.spec, pool.read_only, pool.rps = spec(scaling=QUICK, mode=mode), read_only, 90.0
    decision = pool.run(120)[-1]
    assert decision.desired > 3
    assert not decision.write
    assert reasons(decision)[-1] is reason


@pytest.mark.slow
def test_a_hand_made_pool_of_two_hours_writes_nothing_while_nothing_changes() -> None:
    pool = settled(7200, rps=18.0)
    facts = pool.facts()
    assert not pool.step(replace(facts, generation=2)).changed


@pytest.mark.parametrize(("factor", "seconds"), [(1.0, 45), (0.5, 90)])
def test_unset_it_waits_until_burst_has_cost_what_a_start_in_vain_would(
    factor: float, seconds: int
) -> None:
    # Assumed lead 120 s and 30 s of termination at $3.50/h; the API charges $12.96 or half of it
    # for a replica's work: 41 or 81 s, and decisions fall every 15.
    dear = burst(input_usd=f"{0.2 * factor}", output_usd=f"{0.8 * factor}")
    pool = settled(spec=spec(burst=dear), rps=8.0)
    pool.rps = 60.0
    decisions = pool.run(300)
    wanted = next(i for i, d in enumerate(decisions) if d.proposed > 1)
    added = next(i for i, d in enumerate(decisions) if d.desired > 1)
    assert (added - wanted) * 15 == seconds
    note = next(n for n in decisions[wanted].notes if n.reason is Reason.PERSISTENCE)
    assert "what a start in vain would" in note.message
    assert not any(c.isdigit() for c in note.message), "a condition's text must not move"


def test_replicas_for_peaks_within_the_minute_where_answers_are_quick() -> None:
    """The same load by the minute, but for what shows that it is restless within."""
    quick = variant()
    quick["capacity"] = {"requestsPerSecond": "10", "concurrency": 5}
    found = {}
    for name, swing in (("still", 0.0), ("restless", 2.5)):
        pool = Pool(spec=spec(burst=burst(), variants=[quick]), rps=60.0)
        decisions = []
        for tick in range(240):
            pool.rps = 60.0 + (swing if tick % 2 else -swing)
            decisions.append(pool.step())
        found[name] = max(decisions[-20:], key=lambda d: d.proposed)
    assert found["restless"].peak_share > 3 * found["still"].peak_share
    assert found["restless"].proposed > found["still"].proposed
    assert "give or take" in str(found["restless"])
