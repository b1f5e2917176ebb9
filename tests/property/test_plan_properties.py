"""What planning must keep whatever happens, against a model of the workload controller."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.names import Role
from spillway.core.facts import PodFacts, PodPhase, TargetKind
from spillway.core.history import MAX_GAP_SECONDS
from spillway.core.plan import DRAINED_COST, PlanMemory, plan, release
from tests.property.workload_model import Workload
from tests.unit.core.planning import NOW, draining, load, pool, spec, target
from tests.unit.core.planning import pod as planning_pod

MOST = 8
kinds = st.sampled_from([TargetKind.DEPLOYMENT, TargetKind.ORDINAL])
#: Serving replicas needed, warm ones wanted, hold, share of busy pods, nodes; each for some ticks.
phases = st.lists(
    st.tuples(
        st.integers(1, MOST),
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.sampled_from([2, 5, 100]),
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=6,
)


def ready(workload: Workload, role: Role) -> int:
    return sum(p.role is role and p.phase is PodPhase.READY for p in workload.pods.values())


def never_served(pod: PodFacts) -> bool:
    return pod.phase in {PodPhase.UNSCHEDULABLE, PodPhase.STARTING}


def finished(pod: PodFacts, now: float) -> bool:
    idle = pod.load is not None and pod.load.in_flight == 0
    late = pod.drain_deadline is not None and pod.drain_deadline <= now
    return pod.role is Role.DRAINING and not pod.in_endpoints and (idle or late)


class Pool:
    """The plan and the workload, tick by tick, with everything that must hold asserted."""

    def __init__(self, seed: int, kind: TargetKind) -> None:
        self.workload = Workload(Random(seed), kind, replicas=2)  # noqa: S311 - a test's dice
        self.workload.reconcile()
        self.memory = PlanMemory()
        self.spec = spec(most=MOST, drainTimeout="2m", maxStepDown=2)

    def tick(self, need: int, warm: int, busy: float, blips: float, *, hold: bool) -> None:
        workload = self.workload
        facts = pool(workload.facts(), of=self.spec)
        before, serving = workload.replicas, ready(workload, Role.SERVING)
        actions, self.memory = plan(facts, {"a": need}, warm, hold, self.memory, workload.now)
        workload.apply(actions)
        assert workload.replicas <= MOST
        if hold:
            assert workload.replicas >= before
            assert ready(workload, Role.SERVING) >= serving
        assert ready(workload, Role.SERVING) >= min(serving, need)
        for pod in workload.reconcile():
            assert never_served(pod) or finished(pod, workload.now), pod
        workload.advance(busy, blips)


@given(st.integers(0, 2**32), kinds, phases)
def test_only_finished_or_unborn_pods_go_and_max_and_need_hold(
    seed: int,
    kind: TargetKind,
    script: list[tuple[int, int, bool, float, int, int]],
) -> None:
    run = Pool(seed, kind)
    for need, warm, hold, busy, nodes, ticks in script:
        run.workload.nodes = nodes
        for _ in range(ticks):
            run.tick(need, warm, busy, blips=0.05, hold=hold)


@pytest.mark.slow
@given(st.integers(0, 2**32), kinds, phases, st.integers(1, MOST), st.integers(0, 2))
def test_when_things_calm_down_the_pool_gets_what_was_asked(
    seed: int,
    kind: TargetKind,
    script: list[tuple[int, int, bool, float, int, int]],
    need: int,
    warm: int,
) -> None:
    run = Pool(seed, kind)
    for step_need, step_warm, hold, busy, nodes, ticks in script:
        run.workload.nodes = nodes
        for _ in range(ticks):
            run.tick(step_need, step_warm, busy, blips=0.05, hold=hold)
    run.workload.nodes = 100
    # Twice the slowest path: one drain at a time from max to one, by the deadline.
    for _ in range(160):
        run.tick(need, warm, busy=1.0, blips=0.0, hold=False)
    warm = min(warm, MOST - need)
    assert ready(run.workload, Role.SERVING) == need
    assert ready(run.workload, Role.WARM) == warm
    assert run.workload.replicas == len(run.workload.pods) == need + warm


steps = st.lists(
    st.tuples(st.floats(1.0, 60.0), st.sampled_from([0.0, 0.0, 0.0, 7200.0, 86400.0, -3600.0])),
    min_size=1,
    max_size=40,
)


@given(steps)
def test_a_step_of_the_clock_shortens_a_drain_by_one_capped_step_at_most(
    steps: list[tuple[float, float]],
) -> None:
    now, passed, jumps = NOW, 0.0, 0
    deadline, memory = NOW + 600.0, PlanMemory()
    for seconds, jump in [(0.0, 0.0), *steps]:
        now, passed, jumps = now + seconds + jump, passed + seconds, jumps + (jump > 0)
        busy = load(5.0, at=now)
        victim = draining("d", load=busy, drain_deadline=deadline, deletion_cost=DRAINED_COST)
        facts = pool(target(planning_pod("a", load=busy), victim))
        actions, memory = plan(facts, {"a": 1}, 0, hold=False, memory=memory, now=now)
        if actions.scales:
            assert passed + jumps * MAX_GAP_SECONDS >= 600.0 - 1e-6
            assert now >= deadline


@given(st.integers(0, 2**32), kinds, phases)
def test_release_leaves_every_pod_serving_and_nothing_behind(
    seed: int,
    kind: TargetKind,
    script: list[tuple[int, int, bool, float, int, int]],
) -> None:
    run = Pool(seed, kind)
    for need, warm, hold, busy, nodes, ticks in script:
        run.workload.nodes = nodes
        for _ in range(ticks):
            run.tick(need, warm, busy, blips=0.05, hold=hold)
    before = run.workload.replicas
    run.workload.apply(release(pool(run.workload.facts(), of=run.spec)))
    assert run.workload.replicas == before
    for pod in run.workload.pods.values():
        assert (pod.role, pod.drain_deadline, pod.deletion_cost) == (Role.SERVING, None, 0)
