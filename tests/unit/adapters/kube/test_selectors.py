from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.kube.selectors import (
    Requirement,
    Selector,
    from_label_selector,
    parse_selector,
    selector_matches,
)

KEYS = st.sampled_from(["app", "tier", "spillway.dev/role"])
VALUES = st.sampled_from(["a", "b-2", "c_3.x", "in", "notin"])
REQUIREMENTS = st.one_of(
    st.builds(
        Requirement,
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1, max_size=3).map(tuple),
    ),
    st.builds(Requirement, KEYS, st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(st.lists(REQUIREMENTS, max_size=4), st.dictionaries(KEYS, VALUES))
def test_its_string_form_selects_the_same(
    requirements: list[Requirement], labels: dict[str, str]
) -> None:
    selector = Selector(tuple(requirements))
    assert parse_selector(str(selector)) == selector
    assert selector_matches(parse_selector(str(selector)), labels) == selector_matches(
        selector, labels
    )


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("app=x", {"app": "x"}, True),
        ("app==x", {"app": "y"}, False),
        ("app!=x", {}, True),
        ("app in (x, y),tier", {"app": "y", "tier": "z"}, True),
        ("app in (x,y),tier", {"app": "y"}, False),
        ("app notin (x)", {"app": "x"}, False),
        ("!canary", {"canary": "yes"}, False),
        ("", {"any": "thing"}, True),
        ("app=", {"app": ""}, True),
    ],
)
def test_what_the_string_form_means(text: str, labels: dict[str, str], *, selected: bool) -> None:
    assert selector_matches(parse_selector(text), labels) is selected


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "=x", "a,,b", "a > 3"])
def test_a_selector_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="can't be read; accepted are"):
        parse_selector(text)


def test_an_unknown_operator_is_refused() -> None:
    raw = {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}
    with pytest.raises(ValueError, match="'Gt' on app is unknown; accepted are In"):
        from_label_selector(raw)


def test_all_forms_of_a_label_selector() -> None:
    selector = from_label_selector(
        {
            "matchLabels": {"app": "x"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.keys == {"app", "tier", "old"}
    assert selector_matches(selector, {"app": "x", "tier": "b"})
    assert not selector_matches(selector, {"app": "x", "tier": "b", "old": "1"})
