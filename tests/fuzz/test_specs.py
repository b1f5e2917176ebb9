"""Any spec: refused in words, or run by the whole core without a step out of bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillway.adapters.metrics.missing import missing_for
from spillway.adapters.metrics.snapshot import MetricsSnapshot
from spillway.api.names import API_VERSION, KIND
from spillway.api.validation import InferencePool, InvalidPoolError, parse
from spillway.core.explain import explain
from tests.fuzz.core import Core
from tests.fuzz.facts import Dice
from tests.fuzz.specs import specs, strange

if TYPE_CHECKING:
    from tests.pool_table import Spec

START = 1_792_875_600.0
wide = settings(suppress_health_check=list(HealthCheck))


def parsed(raw: Any) -> InferencePool | None:
    """The pool, or None after a refusal that says what is wrong where."""
    try:
        return parse(raw)
    except InvalidPoolError as error:
        refusal = error
    assert refusal.problems
    assert all(problem.message for problem in refusal.problems)
    assert len(str(refusal)) < 4000
    return None


def object_of(spec: Any) -> dict[str, Any]:
    metadata = {"name": "pool", "namespace": "ns"}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


@wide
@given(specs(), st.integers(0, 2**32))
def test_a_spec_is_refused_or_runs_within_its_bounds(spec: Spec, seed: int) -> None:
    pool = parsed(object_of(spec))
    if pool is None:
        return
    core, dice = Core(pool.spec, START), Dice(seed)
    for _ in range(3):
        facts = dice.pool_facts(pool.spec, core.now)
        core.slow(facts)
        pods = [pod for target in facts.targets.values() for pod in target.pods]
        for _ in range(2):
            core.fast({pod.uid: dice.load(core.now) for pod in pods if dice.chance(0.8)})
            core.now += dice.one_of([1.0, 15.0, 50.0, 700.0, -3600.0, 3600.0])
    assert explain(pool.spec, core.status)
    # What it names ends up in messages about metrics, whatever it is.
    snapshot = MetricsSnapshot(at=core.now)
    assert missing_for(snapshot, "ns", pool.spec.model_name, ["pod"])


@given(strange, strange)
def test_an_object_of_anything_is_refused_and_nothing_else(spec: Any, metadata: Any) -> None:
    for raw in (object_of(spec), {"metadata": metadata, "spec": spec}, [metadata]):
        parsed(raw)
