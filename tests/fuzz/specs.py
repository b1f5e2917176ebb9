"""Specs near and far from valid ones, made from the CRD's own schema."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from spillway.api.crd import custom_resource_definition
from tests.pool_table import FULL, MINIMAL, Spec, changed, paths

[VERSION] = custom_resource_definition()["spec"]["versions"]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]

#: What PromQL, YAML, JSON, shells, log files and format strings trip over.
HOSTILE_TEXTS = (
    "",
    'm"} or vector(1) or up{a="',
    "m\\",
    'm\\\\"\n',
    "`a`",
    "$__all",
    "{pod}",
    "%s%n",
    "../../etc/passwd",
    "@other-host/",
    "\u202e\u0000\ud7ff\U0001f680",
    "x" * 300,
    "1e999",
    "-1",
    "NaN",
    "Infinity",
    "99999999999999999999",
    "0.0000000000001",
    "0s",
    "-5m",
    "8760h",
)
#: Texts that some field or other takes. Drawn from a list, not from the patterns: that is forty
#: times as fast, and the bounds of money and time are among them.
SPOKEN = (
    *("0", "0.000001", "0.01", "0.5", "0.95", "1", "3.50", "250", "999999999", "1000000"),
    *("0s", "1s", "500ms", "60ms", "2s", "90s", "2m", "1h30m", "24h", "10m"),
    *("a", "m", "llama-8b", "auto", "UTC", "Europe/Berlin", "Asia/Kolkata", "/metrics", "/"),
    *("apps/v1", "leaderworkerset.x-k8s.io/v1", "Deployment", "StatefulSet", "LeaderWorkerSet"),
    *("* * * * *", "45 7 * * 1-5", "0 0 29 2 *", "NVIDIA-H100-80GB-HBM3"),
)
strange: st.SearchStrategy[Any] = st.sampled_from(
    (*HOSTILE_TEXTS, None, True, 0, -1, 1.5, 2**63, [], {}, [{}], [None], {"name": "a"})
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def _schema_at(path: str) -> dict[str, Any]:
    """The schema of a dotted path; numbers are places in lists."""
    here = SCHEMA
    for part in path.split("."):
        here = here["items"] if part.isdigit() else here["properties"][part]
    return here


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema takes, its rules between fields aside."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 20) | st.sampled_from(["auto", "0", "7"])
    return {
        "string": _text,
        "integer": lambda s: st.integers(s.get("minimum", 0), s.get("maximum", 10_000)),
        "boolean": lambda _: st.booleans(),
        "array": lambda s: st.lists(fitting(s["items"]), max_size=min(3, s.get("maxItems", 3))),
        "object": _object,
    }[schema["type"]](schema)


def _text(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    longest = schema.get("maxLength", 40)
    if "pattern" not in schema:
        return st.text(max_size=min(longest, 40)) | st.sampled_from(HOSTILE_TEXTS)
    pattern = re.compile(schema["pattern"], re.ASCII)
    taken = [text for text in SPOKEN if len(text) <= longest and pattern.search(text)]
    return st.sampled_from(taken)


def _object(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: fitting(inner) for name, inner in schema.get("properties", {}).items()}
    needed = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in needed},
        optional={name: value for name, value in fields.items() if name not in needed},
    )


PLACES = {path: fitting(_schema_at(path)) for path in paths(FULL)}
place = st.sampled_from(sorted(PLACES))
#: Fields that hold one value: a group drawn whole breaks most of its own rules.
leaf = st.sampled_from(sorted(p for p in PLACES if not any(q.startswith(f"{p}.") for q in PLACES)))


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A spec with up to five fields that the schema takes, and sometimes one that nobody does."""
    spec = draw(st.sampled_from((FULL, MINIMAL)))
    for _ in range(draw(st.integers(0, 5))):
        path = draw(leaf)
        spec = _set(spec, path, draw(PLACES[path]))
    if draw(st.integers(0, 3)) == 0:
        spec = _set(spec, draw(place), draw(strange))
    return spec


def _set(spec: Spec, path: str, value: Any) -> Spec:
    """The spec with a field set, unless what it hangs on is not there any more."""
    try:
        return changed(spec, {path: value})
    except (IndexError, KeyError, TypeError, AttributeError):
        return spec
