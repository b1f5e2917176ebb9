"""An HTTPRoute as burst needs it: where the rule is, what its weights say, and how to change them.

The Gateway API keeps rules and backendRefs in atomic lists: there is no field to own, and a write
by position after somebody has moved an entry would weigh the wrong backend. So a change is a JSON
patch (RFC 6902) that first *tests* that every entry is where it was seen, on the resourceVersion
that it was decided on.

What the weights were before Spillway came is kept in an annotation on the route itself, by pool:
whoever clears up (this operator, another one, a CronJob after both are gone) finds it there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spillway.api.names import ROUTE_WEIGHTS_ANNOTATION
from spillway.api.reasons import Reason
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spillway.api.burst import Burst
    from spillway.core.overflow_value import OverflowValue

#: Sum of the weights that Spillway writes: a thousandth is finer than any fraction it decides.
TOTAL_WEIGHT: Final = 1000
#: What the Gateway API takes for a backendRef that names no weight.
DEFAULT_WEIGHT: Final = 1

Operation: TypeAlias = "dict[str, Any]"


class RouteProblem(Exception):  # noqa: N818 - it is a state of the world, told in a condition
    """The route can't carry the split; the message says what was looked for and what is there.

    Attributes:
        reason: For conditions.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RouteBackend:
    """A backendRef.

    Attributes:
        name: Name of what it leads to.
        kind: ``Service`` where it says nothing.
        group: "" for core.
        namespace: "" for the route's own.
        weight: None where it names none, which counts as `DEFAULT_WEIGHT`.
    """

    name: str
    kind: str = "Service"
    group: str = ""
    namespace: str = ""
    weight: int | None = None

    @property
    def effective_weight(self) -> int:
        """The weight that a gateway goes by."""
        return DEFAULT_WEIGHT if self.weight is None else self.weight


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A rule.

    Attributes:
        name: None where it has none.
        backends: In the order of the route.
    """

    name: str | None
    backends: tuple[RouteBackend, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID.
        resource_version: What a write to it must carry.
        rules: In the order of the route.
        kept: Text of `ROUTE_WEIGHTS_ANNOTATION`; None without it.
        annotated: Whether it has any annotation.
        accepted: Whether every gateway that speaks of this very generation takes it; None where
            none does.
        answered: Whether any gateway has taken it, at any generation.
        refusal: What a gateway says against this generation; "" where none does.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    rules: tuple[RouteRule, ...]
    kept: str | None = None
    annotated: bool = False
    accepted: bool | None = None
    answered: bool = False
    refusal: str = ""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What one pool found when it came.

    Attributes:
        rule: Name of the rule; "" for the only one.
        weights: By backend; None where it named none.
    """

    rule: str
    weights: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Located:
    """Where a pool's rule and backends are in its route.

    Attributes:
        rule: Index of the rule.
        backends: Index of each backend in it, by name.
    """

    rule: int
    backends: Mapping[str, int]


def locate(route: Route, rule_name: str | None, backends: Sequence[str]) -> Located:
    """Find a rule by name and its backends by name.

    Args:
        route: The route.
        rule_name: None for the only rule.
        backends: All that the split knows: the pool's own Service and every provider's.

    Raises:
        RouteProblem: The rule or a backend is not there or is there twice, is no Service of the
            route's namespace, or the rule has a backend with a weight that nobody names.
    """
    index = _rule_index(route, rule_name)
    rule = route.rules[index]
    what = f"HTTPRoute {route.key}, rule {rule.name or index}"
    found: dict[str, int] = {}
    for place, backend in enumerate(rule.backends):
        if backend.name not in backends:
            if backend.effective_weight:
                msg = (
                    f"{what}: backendRef {backend.name} has weight {backend.effective_weight}, and "
                    "neither routeRef.local nor a provider names it; name it, or set its weight 0"
                )
                raise RouteProblem(Reason.ROUTE_UNSUPPORTED, msg)
            continue
        if backend.name in found:
            msg = f"{what}: backendRef {backend.name} is there twice; weights need one each"
            raise RouteProblem(Reason.ROUTE_UNSUPPORTED, msg)
        if (backend.group, backend.kind) != ("", "Service"):
            kind = f"{backend.group}/{backend.kind}".lstrip("/")
            msg = (
                f"{what}: backendRef {backend.name} is a {kind}; only Services can be weighed "
                "(an endpoint picker behind an inference pool decides for itself)"
            )
            raise RouteProblem(Reason.ROUTE_UNSUPPORTED, msg)
        if backend.namespace not in {"", route.namespace}:
            msg = (
                f"{what}: backendRef {backend.name} is in namespace {backend.namespace}; all "
                "backends must be in the pool's own"
            )
            raise RouteProblem(Reason.ROUTE_UNSUPPORTED, msg)
        found[backend.name] = place
    lost = [name for name in backends if name not in found]
    if lost:
        there = ", ".join(backend.name for backend in rule.backends) or "none"
        msg = f"{what} has no backendRef {', '.join(lost)}; it has {there}"
        raise RouteProblem(Reason.ROUTE_BACKEND_NOT_FOUND, msg)
    return Located(index, found)


def _rule_index(route: Route, name: str | None) -> int:
    there = ", ".join(rule.name or "(no name)" for rule in route.rules) or "none"
    if name is None:
        if len(route.rules) == 1:
            return 0
        msg = (
            f"HTTPRoute {route.key} has {len(route.rules)} rules ({there}); routeRef.rule must "
            "name one"
        )
        raise RouteProblem(Reason.ROUTE_RULE_NOT_FOUND, msg)
    places = [place for place, rule in enumerate(route.rules) if rule.name == name]
    if len(places) == 1:
        return places[0]
    said = "more than one rule" if places else "no rule"
    msg = f"HTTPRoute {route.key} has {said} named {name}; it has {there}"
    raise RouteProblem(Reason.ROUTE_RULE_NOT_FOUND, msg)


def backend_names(burst: Burst) -> list[str]:
    """The pool's own Service first, then each provider's.

    Raises:
        ValueError: The spec names no route, or a provider without a backend.
    """
    if burst.route_ref is None or any(p.backend_ref is None for p in burst.providers):
        msg = "driver HTTPRoute needs spec.burst.routeRef and a backendRef of every provider"
        raise ValueError(msg)
    return [
        burst.route_ref.local,
        *(p.backend_ref.name for p in burst.providers if p.backend_ref is not None),
    ]


def split_weights(burst: Burst, value: OverflowValue | None) -> dict[str, int]:
    """Weight of each backend under a value; None, or an idle one, keeps everything local.

    Shares are rounded down, so that no more leaves than was decided; the rest is local. They sum to
    `TOTAL_WEIGHT`, so never to 0 (a gateway answers 500 to all requests then).
    """
    local, *clouds = backend_names(burst)
    weights = dict.fromkeys([local, *clouds], 0)
    if value is not None and not value.idle:
        backends = {p.name: p.backend_ref.name for p in burst.providers if p.backend_ref}
        for share in value.providers:
            if share.name in backends:
                weights[backends[share.name]] = int(share.fraction * TOTAL_WEIGHT + 1e-6)
    weights[local] = TOTAL_WEIGHT - sum(weights.values())
    return weights


def present_weights(route: Route, located: Located) -> dict[str, int]:
    """Weight of each backend as the route has it."""
    backends = route.rules[located.rule].backends
    return {name: backends[place].effective_weight for name, place in located.backends.items()}


def cloud_share(weights: Mapping[str, int], local: str) -> float:
    """Share of the requests that leaves under these weights, 0 to 1."""
    total = sum(weights.values())
    return 0.0 if total <= 0 else 1 - weights.get(local, 0) / total


def kept_weights(route: Route) -> dict[str, Kept]:
    """What each pool found when it came, by pool; empty where the annotation can't be read."""
    try:
        document = json.loads(route.kept or "{}")
        return {
            str(pool): Kept(
                str(entry["rule"]),
                {
                    str(name): None if weight is None else int(weight)
                    for name, weight in entry["weights"].items()
                },
            )
            for pool, entry in document.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _text(kept: Mapping[str, Kept]) -> str:
    document = {
        pool: {"rule": each.rule, "weights": dict(each.weights)} for pool, each in kept.items()
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def weights_patch(
    route: Route, located: Located, pool: str, rule_name: str | None, weights: Mapping[str, int]
) -> list[Operation]:
    """JSON patch that gives the pool's backends these weights; empty where they have them.

    The first one also keeps what the weights were.

    Raises:
        RouteProblem: Another pool has the same rule.
    """
    kept = kept_weights(route)
    rule = rule_name or ""
    for other, each in kept.items():
        if other != pool and each.rule == rule:
            msg = (
                f"HTTPRoute {route.key}, rule {rule or 0}: InferencePool {other} weighs the same "
                "rule; give each pool a rule of its own"
            )
            raise RouteProblem(Reason.ROUTE_CONTESTED, msg)
    backends = route.rules[located.rule].backends
    mine = kept.get(pool)
    if mine is None or mine.rule != rule:
        mine = Kept(rule, {})
    found = {name: backends[place].weight for name, place in located.backends.items()}
    kept[pool] = Kept(rule, {**found, **mine.weights})
    changes = [
        _set_weight(located.rule, place, weights[name])
        for name, place in sorted(located.backends.items())
        if backends[place].weight != weights[name]
    ]
    note = _keep(route, kept)
    if not changes and not note:
        return []
    return [*_tests(route, located), *note, *changes]


def restore_patch(route: Route, pool: str) -> list[Operation]:
    """JSON patch that gives a pool's backends their weights back and forgets the pool.

    Backends, or a rule, that are not there any more are left out. Empty where the route keeps
    nothing of the pool.
    """
    kept = kept_weights(route)
    mine = kept.pop(pool, None)
    if mine is None:
        return []
    located = _still_there(route, mine)
    changes: list[Operation] = []
    if located is not None:
        backends = route.rules[located.rule].backends
        for name, place in sorted(located.backends.items()):
            weight = mine.weights[name]
            if weight is not None:
                changes.append(_set_weight(located.rule, place, weight))
            elif backends[place].weight is not None:
                changes.append(
                    {"op": "remove", "path": _path(located.rule, place, "weight")},
                )
    tests = [] if located is None else _tests(route, located)
    return [*tests, *_keep(route, kept), *changes]


def local_patch(route: Route, pool: str, local: str | None) -> list[Operation]:
    """JSON patch that keeps everything of a pool local, and what its weights were kept as well.

    For whoever finds weights whose value has expired.

    Args:
        route: The route.
        pool: Name of the pool.
        local: Backend of the pool's own Service; None, where the pool is gone, restores instead.
    """
    mine = kept_weights(route).get(pool)
    if mine is None:
        return []
    located = _still_there(route, mine)
    if located is None:
        return []
    if local is None or local not in located.backends:
        return restore_patch(route, pool)
    backends = route.rules[located.rule].backends
    changes = [
        _set_weight(located.rule, place, weight)
        for name, place in sorted(located.backends.items())
        for weight in [TOTAL_WEIGHT if name == local else 0]
        if backends[place].effective_weight != weight
    ]
    leaves = any(
        backends[place].effective_weight
        for name, place in located.backends.items()
        if name != local
    )
    return [*_tests(route, located), *changes] if leaves else []


def _still_there(route: Route, kept: Kept) -> Located | None:
    """Where what a pool keeps is now; None where its rule is gone."""
    try:
        index = _rule_index(route, kept.rule or None)
    except RouteProblem:
        return None
    places: dict[str, int] = {}
    for place, backend in enumerate(route.rules[index].backends):
        if backend.name in kept.weights and backend.kind == "Service":
            places.setdefault(backend.name, place)
    return Located(index, places)


def _path(rule: int, place: int, field: str) -> str:
    return f"/spec/rules/{rule}/backendRefs/{place}/{field}"


def _set_weight(rule: int, place: int, weight: int) -> Operation:
    # "add" replaces what is there (RFC 6902, 4.1), and is right where a backendRef names none.
    return {"op": "add", "path": _path(rule, place, "weight"), "value": weight}


def _tests(route: Route, located: Located) -> list[Operation]:
    """That everything still is where it was seen."""
    rule = route.rules[located.rule]
    tests: list[Operation] = [
        {"op": "test", "path": "/metadata/uid", "value": route.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": route.resource_version},
    ]
    if rule.name is not None:
        tests.append({"op": "test", "path": f"/spec/rules/{located.rule}/name", "value": rule.name})
    tests += [
        {"op": "test", "path": _path(located.rule, place, "name"), "value": name}
        for name, place in sorted(located.backends.items())
    ]
    return tests


def _keep(route: Route, kept: Mapping[str, Kept]) -> list[Operation]:
    """Operations on the annotation that keeps what weights were."""
    escaped = ROUTE_WEIGHTS_ANNOTATION.replace("~", "~0").replace("/", "~1")
    path = f"/metadata/annotations/{escaped}"
    if not kept:
        return [] if route.kept is None else [{"op": "remove", "path": path}]
    text = _text(kept)
    if text == route.kept:
        return []
    if not route.annotated:
        value = {ROUTE_WEIGHTS_ANNOTATION: text}
        return [{"op": "add", "path": "/metadata/annotations", "value": value}]
    return [{"op": "add", "path": path, "value": text}]
