"""HTTPRoute weights on a real API server: in step, beside others who write them, given back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube.client import Cluster as Client
from spillway.adapters.kube.errors import Conflict, Invalid
from spillway.adapters.kube.routes import RouteWriter, project_route
from spillway.api.names import ROUTE_WEIGHTS_ANNOTATION
from spillway.api.timestamps import parse_time
from spillway.core.route import locate, weights_patch
from tests.e2e.rig import gateway_api
from tests.e2e.rig.gateway_api import ROUTE, accept, http_route, rule
from tests.e2e.rig.operator_process import variables
from tests.e2e.rig.waiting import wait_for
from tests.e2e.scenario import CAPACITY_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.e2e.faults import Faults
    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

SPIKE = 3 * 2 * CAPACITY_PER_SECOND
STAY = "stay"
CHAT = "chat"
PROVIDER = {
    "name": "cloud",
    "price": {"inputPerMillion": "10", "outputPerMillion": "30"},
    "backendRef": {"name": "api"},
}
ROUTED = {
    "replicas": {"floor": 2, "max": 2},
    "burst": {
        "driver": "HTTPRoute",
        "routeRef": {"name": "route", "rule": CHAT, "local": "llama"},
        "providers": [PROVIDER],
    },
}
ENGINE = {"profile": {"overrides": {"base_seconds": 0.022, "max_num_seqs": 16}}}


def make_route(pool: Scenario, *, taken: bool = True) -> None:
    """A rule of marked traffic, which stays, and the pool's."""
    api = pool.rig.cluster.api
    stay = {
        **rule(STAY, llama=None),
        "matches": [{"headers": [{"name": "x-stay", "value": "yes"}]}],
    }
    api.apply(http_route("route", pool.namespace, stay, rule(CHAT, llama=None, api=0)))
    if taken:
        accept(api, "route", pool.namespace)


def route(pool: Scenario) -> dict[str, Any]:
    found: dict[str, Any] = pool.rig.cluster.api.get(ROUTE, "route", pool.namespace)
    return found


def weights(pool: Scenario) -> dict[str, int | None]:
    """Weights of the pool's rule, wherever it stands."""
    rules = {each["name"]: each for each in route(pool)["spec"]["rules"]}
    return {ref["name"]: ref.get("weight") for ref in rules[CHAT]["backendRefs"]}


def set_weights(pool: Scenario, index: int, *values: int) -> None:
    """Somebody else's edit."""
    patch = [
        {"op": "add", "path": f"/spec/rules/{index}/backendRefs/{n}/weight", "value": value}
        for n, value in enumerate(values)
    ]
    pool.rig.cluster.api.patch(ROUTE, "route", pool.namespace, patch)


def bursting(pool: Scenario) -> None:
    pool.rate(SPIKE)
    pool.wait("weights let some leave", lambda: weights(pool), lambda w: (w["api"] or 0) > 300)


def command(rig: Rig, name: str, account: str, **settings: Any) -> dict[str, Any]:
    """A command as the chart's Job runs it, under an operator's rights; what it prints."""
    space = rig.system_namespace
    rig.cluster.grant_as_shipped(account, space)
    kubeconfig = rig.cluster.kubeconfig_as(account, space, cluster_role=None)
    answer = subprocess.run(
        [sys.executable, "-m", "spillway", name, "--json", "--kubeconfig", str(kubeconfig)],
        env=variables({"namespace": space, **settings}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    done: dict[str, Any] = json.loads(answer.stdout)
    return done


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    gateway_api.install(cluster.api)
    async with await Client.connect(str(cluster.kubeconfig)) as connected:
        yield connected


async def test_a_patch_whose_test_fails_is_a_conflict_and_one_that_is_wrong_is_not(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    made = http_route("route", namespace, rule(STAY, local=None), rule(CHAT, local=None, api=0))
    cluster.api.apply(made)
    writer, names = RouteWriter(client), ["local", "api"]
    seen = project_route(cluster.api.get(ROUTE, "route", namespace))
    patch = weights_patch(seen, locate(seen, CHAT, names), "p", CHAT, {"local": 600, "api": 400})
    written = await writer.write(seen, patch)
    assert [b.weight for b in written.rules[1].backends] == [600, 400]
    with pytest.raises(Conflict):
        await writer.write(seen, patch)
    # Nobody tests the version here: the entry has moved, or is not there at all.
    for place in (0, 5):
        moved: list[dict[str, Any]] = [
            {"op": "test", "path": f"/spec/rules/1/backendRefs/{place}/name", "value": "api"},
            {"op": "add", "path": f"/spec/rules/1/backendRefs/{place}/weight", "value": 1},
        ]
        with pytest.raises(Conflict):
            await writer.write(seen, moved)
    path = "/spec/rules/1/backendRefs/0/weight"
    wrong = [{"op": "add", "path": path, "value": 2_000_000}]
    with pytest.raises(Invalid) as refused:
        await writer.write(seen, wrong)
    assert "weight" in refused.value.message
    after = project_route(cluster.api.get(ROUTE, "route", namespace))
    assert after.rules == written.rules


def test_the_route_comes_after_the_pool_and_carries_its_value(
    operators: Rig, scenario: Callable[..., Scenario], faults: Faults
) -> None:
    api = operators.cluster.api
    if not operators.cluster.owns_control_plane and gateway_api.installed(api):
        pytest.skip("this cluster has the Gateway API, and it is not ours to take away")
    gateway_api.remove(api)
    operators.start_operator()
    pool = scenario(spec=ROUTED, emulator=ENGINE)
    pool.start()
    said = pool.wait_condition("RouteReady", "False", "RouteNotFound")
    assert "there is no HTTPRoute" in said["message"]
    gateway_api.install(api)
    make_route(pool, taken=False)
    pool.wait_condition("RouteReady", "False", "RouteNotAccepted", timeout=30)
    accept(api, "route", pool.namespace)
    pool.wait_condition("RouteReady", "True", "RouteProgrammed")
    wait_for("all is local", lambda: weights(pool), lambda w: w == {"llama": 1000, "api": 0})
    bursting(pool)

    # Somebody moves the rule and sets weights: the place is adopted, the weights are set back.
    edited = time.time()
    stay, chat = route(pool)["spec"]["rules"]
    assert stay["backendRefs"][0]["weight"] == 1, "nobody has touched the other rule"
    for ref in chat["backendRefs"]:
        ref["weight"] = 5
    api.patch(ROUTE, "route", pool.namespace, {"spec": {"rules": [chat, stay]}})
    pool.wait("they are set back", lambda: weights(pool), lambda w: sum(w.values()) == 1000)
    held = "the rule is found, the weights are set back; the third time it holds and says so"
    faults.survived("somebody else edits the route", held, time.time() - edited)
    assert pool.condition("RouteReady")["status"] == "True"
    # Once more and again: somebody means it. An edit that meets a write of ours does not count.
    reason = ""
    for _ in range(4):
        set_weights(pool, 0, 5, 5)
        _, reason = pool.wait(
            "they are set back, or left",
            lambda: (
                sum(weight or 0 for weight in weights(pool).values()),
                pool.condition("RouteReady")["reason"],
            ),
            lambda seen: seen[0] == 1000 or seen[1] == "RouteContested",
        )
        if reason == "RouteContested":
            break
    assert reason == "RouteContested"
    assert weights(pool) == {"llama": 5, "api": 5}
    pool.wait_condition("OverflowActive", "False")

    # Whoever deletes the pool gets the route as it was.
    api.delete("InferencePool", pool.name, pool.namespace)
    pool.wait("it is given back", lambda: weights(pool), lambda w: (w["api"], w["llama"]) == (0, 1))
    assert ROUTE_WEIGHTS_ANNOTATION not in (route(pool)["metadata"].get("annotations") or {})


def test_weights_of_an_operator_that_died_are_reset_when_the_value_has_expired(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    gateway_api.install(operators.cluster.api)
    operator = operators.start_operator()
    pool = scenario(spec=ROUTED, emulator=ENGINE)
    pool.deploy()
    make_route(pool)
    pool.apply()
    pool.wait_ready()
    pool.wait_condition("RouteReady", "True")
    bursting(pool)
    operator.kill()
    here = {"watch_namespaces": json.dumps([pool.namespace])}
    left = weights(pool)
    done = command(operators, "reset-routes", "spillway-reset", **here)
    assert (done["routes"], done["kept"]) == ([], [f"{pool.namespace}/route"])
    assert weights(pool) == left, "its value still holds"
    until = parse_time(json.loads(pool.annotation() or "{}")["until"])
    pool.wait("the value expires", lambda: time.time() > until + 6)
    done = command(operators, "reset-routes", "spillway-reset", **here)
    assert done["routes"] == [f"{pool.namespace}/route"]
    assert weights(pool) == {"llama": 1000, "api": 0}

    # Its Lease would only run out after a while.
    operators.cluster.api.delete("Lease", "spillway-operator", operators.system_namespace)
    # The next operator goes on, and gives back what a pool that went meanwhile has left.
    operators.start_operator("b")
    pool.wait("it bursts again", lambda: weights(pool), lambda w: (w["api"] or 0) > 0, timeout=60)
    operators.stop_operators()
    operators.cluster.api.delete("InferencePool", pool.name, pool.namespace)
    operators.start_operator("c")
    pool.wait("it is swept", lambda: weights(pool), lambda w: (w["api"], w["llama"]) == (0, 1))


def test_release_hands_everything_back_while_operators_still_run(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    gateway_api.install(operators.cluster.api)
    operators.start_operator()
    warm = {"warmPool": {"size": 1}, "replicas": {"floor": 2, "max": 5}}
    pool = scenario(spec={**ROUTED, **warm}, emulator=ENGINE)
    pool.deploy()
    make_route(pool)
    pool.apply()
    pool.wait_ready()
    pool.wait_roles(serving=2, warm=1)
    pool.wait("it is weighed", lambda: weights(pool), lambda w: w == {"llama": 1000, "api": 0})
    done = command(
        operators, "release", "spillway-release", watch_namespaces=json.dumps([pool.namespace]),
        lease_duration_seconds=4, lease_renew_seconds=3, lease_retry_seconds=0.5,
    )  # fmt: skip
    assert done["failures"] == []
    assert done["routes"] == [f"{pool.namespace}/route"]
    assert len(done["pods"]) == 1
    assert pool.annotation() is None
    assert ROUTE_WEIGHTS_ANNOTATION not in (route(pool)["metadata"].get("annotations") or {})
    assert (weights(pool)["api"], weights(pool)["llama"]) == (0, 1)
    assert len(pool.pods("serving")) == 3
    lease = operators.cluster.api.get("Lease", "spillway-operator", operators.system_namespace)
    assert lease["spec"]["holderIdentity"] == "spillway-release"
    # What follows must not wait for it.
    operators.cluster.api.delete("Lease", "spillway-operator", operators.system_namespace)


@pytest.mark.parametrize(
    ("backends", "reason", "said"),
    [
        ([{"name": "llama", "group": "inference.networking.k8s.io", "kind": "InferencePool"}],
         "RouteUnsupported", "inference.networking.k8s.io/InferencePool"),
        ([{"name": "llama", "port": 8000}], "RouteBackendNotFound", "no backendRef api"),
    ],
)  # fmt: skip
def test_a_route_that_can_not_carry_the_split_is_told_and_left_alone(
    operators: Rig,
    scenario: Callable[..., Scenario],
    backends: list[dict[str, Any]],
    reason: str,
    said: str,
) -> None:
    api = operators.cluster.api
    gateway_api.install(api)
    operators.start_operator()
    pool = scenario(spec=ROUTED, emulator=ENGINE)
    pool.deploy()
    api.apply(http_route("route", pool.namespace, {"name": CHAT, "backendRefs": backends}))
    accept(api, "route", pool.namespace)
    before = route(pool)
    pool.apply()
    assert said in pool.wait_condition("RouteReady", "False", reason, timeout=60)["message"]
    pool.rate(SPIKE)
    pool.wait_condition("OverflowActive", "False", reason)
    assert route(pool)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
