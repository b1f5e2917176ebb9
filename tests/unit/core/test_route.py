"""Finding a pool's rule in an HTTPRoute, weighing it, and giving it back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.kube.routes import project_route
from spillway.api.names import ROUTE_WEIGHTS_ANNOTATION
from spillway.api.reasons import Reason
from spillway.core.overflow_value import NO_ALLOWANCE, OverflowValue, ProviderShare
from spillway.core.route import (
    TOTAL_WEIGHT,
    Route,
    RouteProblem,
    cloud_share,
    kept_weights,
    local_patch,
    locate,
    present_weights,
    restore_patch,
    split_weights,
    weights_patch,
)
from tests.unit.patching import patched

from .bursting import NOW, spec

BACKENDS = ["local", "one", "two"]
NAMES = ("first", "second")
PROVIDERS = [
    {"name": "first", "backendRef": {"name": "one"}},
    {"name": "second", "backendRef": {"name": "two"}},
]
BURST = spec(
    driver="HTTPRoute",
    routeRef={"name": "r", "rule": "chat", "local": "local"},
    providers=PROVIDERS,
).burst
assert BURST is not None


def ref(name: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, **({} if weight is None else {"weight": weight}), **more}


def rule(*refs: dict[str, Any], name: str | None = "chat") -> dict[str, Any]:
    return {"backendRefs": list(refs), **({} if name is None else {"name": name})}


def document(*rules: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "name": "r", "uid": "u", "resourceVersion": "7", **meta},
        "spec": {"rules": list(rules)},
    }


def usual(**meta: Any) -> dict[str, Any]:
    """Two rules; the second is the pool's, with no weight on one of its backends."""
    marked = rule(ref("local"), name="stay")
    return document(marked, rule(ref("two", 0), ref("local"), ref("one", 0)), **meta)


def value(*fractions: float) -> OverflowValue:
    shares = tuple(ProviderShare(name, f) for name, f in zip(NAMES, fractions, strict=False))
    return OverflowValue(
        version=1,
        epoch=1,
        until=NOW + 45,
        fraction=sum(fractions),
        admit=None,
        allowance=NO_ALLOWANCE,
        providers=shares,
        reason=Reason.SHORTAGE if any(fractions) else Reason.COVERED,
    )


def weigh(raw: dict[str, Any], weights: dict[str, int], pool: str = "pool") -> dict[str, Any]:
    route = project_route(raw)
    found = locate(route, "chat", BACKENDS)
    changed: dict[str, Any] = patched(raw, weights_patch(route, found, pool, "chat", weights))
    return changed


def weights_of(raw: dict[str, Any], index: int = 1) -> dict[str, int | None]:
    return {r["name"]: r.get("weight") for r in raw["spec"]["rules"][index]["backendRefs"]}


# Finding


def test_the_named_rule_is_found_wherever_it_stands() -> None:
    found = locate(project_route(usual()), "chat", BACKENDS)
    assert (found.rule, dict(found.backends)) == (1, {"two": 0, "local": 1, "one": 2})


def test_the_only_rule_needs_no_name() -> None:
    route = project_route(document(rule(*map(ref, BACKENDS), name=None)))
    assert locate(route, None, BACKENDS).rule == 0


@pytest.mark.parametrize(
    ("raw", "name", "reason", "said"),
    [
        (usual(), None, Reason.ROUTE_RULE_NOT_FOUND, "has 2 rules (stay, chat); routeRef.rule"),
        (usual(), "code", Reason.ROUTE_RULE_NOT_FOUND, "no rule named code; it has stay, chat"),
        (document(), None, Reason.ROUTE_RULE_NOT_FOUND, "has 0 rules (none)"),
        (
            document(rule(ref("local")), rule(ref("local"))),
            "chat",
            Reason.ROUTE_RULE_NOT_FOUND,
            "more than one rule named chat",
        ),
        (
            document(rule(ref("local"), ref("one"))),
            "chat",
            Reason.ROUTE_BACKEND_NOT_FOUND,
            "has no backendRef two; it has local, one",
        ),
        (
            document(rule(*map(ref, BACKENDS), ref("canary", 5))),
            "chat",
            Reason.ROUTE_UNSUPPORTED,
            "backendRef canary has weight 5",
        ),
        (
            document(rule(*map(ref, BACKENDS), ref("one"))),
            "chat",
            Reason.ROUTE_UNSUPPORTED,
            "one is there twice",
        ),
        (
            document(
                rule(
                    ref("local", group="inference.networking.k8s.io", kind="InferencePool"),
                    ref("one"),
                    ref("two"),
                )
            ),
            "chat",
            Reason.ROUTE_UNSUPPORTED,
            "local is a inference.networking.k8s.io/InferencePool; only Services",
        ),
        (
            document(rule(ref("local"), ref("one", namespace="other"), ref("two"))),
            "chat",
            Reason.ROUTE_UNSUPPORTED,
            "one is in namespace other",
        ),
    ],
)
def test_a_route_that_cannot_carry_the_split_says_why(
    raw: dict[str, Any], name: str | None, reason: Reason, said: str
) -> None:
    with pytest.raises(RouteProblem) as caught:
        locate(project_route(raw), name, BACKENDS)
    assert caught.value.reason is reason
    assert said in str(caught.value)


def test_a_backend_of_weight_0_that_nobody_names_does_no_harm() -> None:
    route = project_route(document(rule(*map(ref, BACKENDS), ref("old", 0))))
    assert set(locate(route, "chat", BACKENDS).backends) == set(BACKENDS)


# Weighing


def test_no_value_keeps_everything_local() -> None:
    assert BURST is not None
    everything = {"local": TOTAL_WEIGHT, "one": 0, "two": 0}
    assert split_weights(BURST, None) == everything
    assert split_weights(BURST, value(0.0)) == everything


@given(st.lists(st.floats(0, 0.5), min_size=2, max_size=2))
def test_weights_sum_to_the_total_and_send_no_more_than_was_decided(fractions: list[float]) -> None:
    assert BURST is not None
    weights = split_weights(BURST, value(*fractions))
    assert sum(weights.values()) == TOTAL_WEIGHT
    assert all(weight >= 0 for weight in weights.values())
    assert cloud_share(weights, "local") <= sum(fractions) + 1e-6
    assert cloud_share(weights, "local") > sum(fractions) - 2 / TOTAL_WEIGHT


def test_a_provider_that_the_spec_no_longer_names_stays_local() -> None:
    assert BURST is not None
    told = value(0.25)
    gone = replace(told, providers=(*told.providers, ProviderShare("gone", 0.25)), fraction=0.5)
    assert split_weights(BURST, gone) == {"local": 750, "one": 250, "two": 0}


def test_a_change_keeps_what_was_there_and_tests_what_it_was_decided_on() -> None:
    raw = usual(annotations={"theirs": "x"})
    route = project_route(raw)
    weights = {"local": 700, "one": 300, "two": 0}
    patch = weights_patch(route, locate(route, "chat", BACKENDS), "pool", "chat", weights)
    tests = {o["path"]: o["value"] for o in patch if o["op"] == "test"}
    assert tests["/metadata/resourceVersion"] == "7"
    assert tests["/spec/rules/1/name"] == "chat"
    assert tests["/spec/rules/1/backendRefs/1/name"] == "local"
    changed = patched(raw, patch)
    assert weights_of(changed) == weights
    assert weights_of(changed, 0) == {"local": None}, "another rule is not ours"
    assert changed["metadata"]["annotations"]["theirs"] == "x"
    kept = kept_weights(project_route(changed))["pool"]
    assert (kept.rule, dict(kept.weights)) == ("chat", {"two": 0, "local": None, "one": 0})


def test_what_is_kept_is_what_was_there_first() -> None:
    raw = weigh(weigh(usual(), {"local": 700, "one": 300, "two": 0}), dict.fromkeys(BACKENDS, 1))
    assert kept_weights(project_route(raw))["pool"].weights == {"two": 0, "local": None, "one": 0}


def test_nothing_is_written_where_nothing_differs() -> None:
    raw = weigh(usual(), {"local": 700, "one": 300, "two": 0})
    route = project_route(raw)
    found = locate(route, "chat", BACKENDS)
    assert weights_patch(route, found, "pool", "chat", present_weights(route, found)) == []


def test_a_rule_that_another_pool_weighs_is_contested() -> None:
    raw = weigh(usual(), {"local": 1000, "one": 0, "two": 0}, pool="other")
    route = project_route(raw)
    with pytest.raises(RouteProblem, match="InferencePool other weighs the same rule") as caught:
        weights_patch(route, locate(route, "chat", BACKENDS), "pool", "chat", {})
    assert caught.value.reason is Reason.ROUTE_CONTESTED


# Giving back


def restored(raw: dict[str, Any], pool: str = "pool") -> dict[str, Any]:
    back: dict[str, Any] = patched(raw, restore_patch(project_route(raw), pool))
    return back


@given(
    st.lists(st.none() | st.integers(0, 1_000_000), min_size=3, max_size=3),
    st.sampled_from([{}, {"annotations": {"theirs": "x"}}]),
)
def test_a_route_is_given_back_as_it_was(
    weights: list[int | None], meta: dict[str, dict[str, str]]
) -> None:
    raw = document(rule(*(ref(name, w) for name, w in zip(BACKENDS, weights, strict=True))), **meta)
    back = restored(weigh(raw, {"local": 600, "one": 400, "two": 0}))
    assert back["spec"] == raw["spec"]
    assert back["metadata"].get("annotations", {}) == meta.get("annotations", {})


def test_entries_that_moved_meanwhile_get_their_own_weights_back() -> None:
    raw = weigh(usual(), {"local": 600, "one": 400, "two": 0})
    raw["spec"]["rules"][1]["backendRefs"].reverse()
    raw["spec"]["rules"].reverse()
    assert weights_of(restored(raw), 0) == {"one": 0, "local": None, "two": 0}


def test_a_rule_that_is_gone_leaves_only_the_note_to_take_away() -> None:
    raw = weigh(usual(), {"local": 600, "one": 400, "two": 0})
    del raw["spec"]["rules"][1]
    back = restored(raw)
    assert back["spec"] == raw["spec"]
    assert ROUTE_WEIGHTS_ANNOTATION not in back["metadata"]["annotations"]


def test_two_pools_on_one_route_do_not_touch_each_others_weights() -> None:
    raw = document(
        rule(*(ref(name, 0) for name in BACKENDS)),
        rule(ref("local", 3), ref("one", 4), ref("two", 5), name="code"),
    )
    raw = weigh(raw, {"local": 600, "one": 400, "two": 0})
    route = project_route(raw)
    other = weights_patch(
        route,
        locate(route, "code", BACKENDS),
        "coder",
        "code",
        {"local": 1000, "one": 0, "two": 0},
    )
    back = restored(patched(raw, other))
    assert weights_of(back, 0) == dict.fromkeys(BACKENDS, 0)
    assert weights_of(back, 1) == {"local": 1000, "one": 0, "two": 0}
    assert list(kept_weights(project_route(back))) == ["coder"]
    assert weights_of(restored(back, "coder"), 1) == {"local": 3, "one": 4, "two": 5}


def test_nothing_of_ours_means_nothing_to_give_back() -> None:
    assert restore_patch(project_route(usual()), "pool") == []
    assert local_patch(project_route(usual()), "pool", "local") == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pool": 1}', '{"pool": {"rule": "chat"}}'])
def test_a_note_that_cannot_be_read_counts_as_none(text: str) -> None:
    route = project_route(usual(annotations={ROUTE_WEIGHTS_ANNOTATION: text}))
    assert kept_weights(route) == {}


# After an expiry


def test_an_expired_value_leaves_everything_local_and_the_note_in_place() -> None:
    raw = weigh(usual(), {"local": 600, "one": 400, "two": 0})
    local = patched(raw, local_patch(project_route(raw), "pool", "local"))
    assert weights_of(local) == {"two": 0, "local": 1000, "one": 0}
    assert kept_weights(project_route(local)) == kept_weights(project_route(raw))
    assert local_patch(project_route(local), "pool", "local") == [], "and then it is done"


@pytest.mark.parametrize("local", [None, "renamed"])
def test_without_a_pool_that_says_what_is_local_the_route_is_given_back(local: str | None) -> None:
    raw = weigh(usual(), {"local": 600, "one": 400, "two": 0})
    back = patched(raw, local_patch(project_route(raw), "pool", local))
    assert weights_of(back) == {"two": 0, "local": None, "one": 0}


# Reading the object


@pytest.mark.parametrize(
    ("conditions", "accepted"),
    [
        ([], None),
        ([("Accepted", "True", 3)], True),
        ([("Accepted", "False", 3)], False),
        ([("Accepted", "True", 3), ("Accepted", "False", 3)], False),
        ([("Accepted", "True", 2)], None),
        ([("ResolvedRefs", "True", 3)], None),
        ([("Accepted", "True", 3), ("ResolvedRefs", "False", 3)], False),
    ],
)
def test_only_what_a_gateway_says_of_this_generation_counts(
    conditions: list[tuple[str, str, int]],
    accepted: bool | None,  # noqa: FBT001 - a column of the table
) -> None:
    raw = usual(generation=3)
    raw["status"] = {
        "parents": [
            {"conditions": [{"type": kind, "status": status, "observedGeneration": generation}]}
            for kind, status, generation in conditions
        ]
    }
    route = project_route(raw)
    assert route.accepted is accepted
    assert route.answered is any((c[0], c[1]) == ("Accepted", "True") for c in conditions)
    assert bool(route.refusal) is (accepted is False)


def test_the_note_is_json_that_a_person_can_read() -> None:
    raw = weigh(usual(), {"local": 600, "one": 400, "two": 0})
    text = raw["metadata"]["annotations"][ROUTE_WEIGHTS_ANNOTATION]
    assert json.loads(text) == {
        "pool": {"rule": "chat", "weights": {"local": None, "one": 0, "two": 0}}
    }
    assert isinstance(project_route(raw), Route)
