from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.names import API_VERSION, KIND
from spillway.api.validation import FieldProblem, InferencePool, InvalidPoolError, parse
from tests.pool_table import CASES, FULL, INVALID, MINIMAL, VALID, Case, changed, paths


def _object(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "llama-8b", "namespace": "serving"} | metadata,
        "spec": MINIMAL if spec is None else spec,
    }


def _problems(obj: Any) -> tuple[FieldProblem, ...]:
    with pytest.raises(InvalidPoolError) as caught:
        parse(obj)
    return caught.value.problems


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_valid_object_parses(case: Case) -> None:
    assert parse(case.object).name == case.name


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
def test_invalid_object_is_refused_by_field_and_what_it_accepts(case: Case) -> None:
    with pytest.raises(InvalidPoolError) as caught:
        parse(case.object)
    message = str(caught.value).casefold()
    assert [words for words in case.says if words.casefold() not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_spec_written_back_means_the_same(case: Case) -> None:
    spec = parse(case.object).spec
    written = spec.model_dump(mode="json", exclude_none=True)
    assert parse(_object(written)).spec == spec


def test_every_problem_is_named() -> None:
    spec = changed(
        MINIMAL, {"replicas.floor": 13, "latency.ttft": "soon", "variants.0.name": "H100"}
    )
    assert [problem.path for problem in _problems(_object(spec))] == [
        "spec.variants[0].name",
        "spec.replicas.floor",
        "spec.latency.ttft",
    ]


def test_message_is_one_readable_sentence() -> None:
    (problem,) = _problems(_object(changed(MINIMAL, {"replicas.floor": 13})))
    assert problem == FieldProblem("spec.replicas.floor", 13, "must be at most replicas.max")
    assert str(problem) == "spec.replicas.floor must be at most replicas.max, got 13"


def test_long_values_and_many_problems_are_cut() -> None:
    spec = {"modelName": ["x" * 100_000], "variants": [{} for _ in range(8)]}
    with pytest.raises(InvalidPoolError) as caught:
        parse(_object(spec))
    assert len(caught.value.problems) == 18
    assert "and 10 more" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_metadata_is_read() -> None:
    pool = parse(
        _object(
            uid="u",
            generation=7,
            resourceVersion="42",
            creationTimestamp="1970-01-01T00:01:00Z",
            deletionTimestamp="2026-11-21T08:00:00Z",
            annotations={"a": "b"},
        )
        | {"status": {"replicas": {"serving": 2}}}
    )
    assert pool.key == "serving/llama-8b"
    assert (pool.uid, pool.generation, pool.resource_version) == ("u", 7, "42")
    assert (pool.created_at, pool.deletion) == (60.0, True)
    assert (pool.annotations, pool.status_raw) == ({"a": "b"}, {"replicas": {"serving": 2}})


def test_file_without_what_the_server_adds_parses() -> None:
    obj = _object()
    del obj["metadata"]["namespace"]
    pool = parse(obj)
    assert (pool.namespace, pool.generation, pool.deletion) == ("default", 0, False)
    assert (pool.status_raw, pool.annotations) == ({}, {})


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        (None, "metadata"),
        ("llama", "metadata"),
        ({}, "metadata.name"),
        ({"name": 5}, "metadata.name"),
        ({"name": "a", "namespace": ["b"]}, "metadata.namespace"),
        ({"name": "a", "generation": "1"}, "metadata.generation"),
        ({"name": "a", "creationTimestamp": "yesterday"}, "metadata.creationTimestamp"),
        ({"name": "a", "annotations": {"b": 1}}, "metadata.annotations"),
    ],
)
def test_broken_metadata_is_a_problem_of_its_field(metadata: Any, path: str) -> None:
    assert [problem.path for problem in _problems(_object() | {"metadata": metadata})] == [path]


def test_the_other_kind_of_the_same_name_is_refused() -> None:
    gaie = _object() | {"apiVersion": "inference.networking.k8s.io/v1"}
    (problem,) = _problems(gaie)
    assert (problem.path, problem.message) == ("apiVersion", f"must be {API_VERSION}")


def test_strange_status_does_not_invalidate_a_pool() -> None:
    assert parse(_object() | {"status": ["?"]}).status_raw == {}


def test_the_same_spec_is_read_once_unless_it_is_long() -> None:
    assert parse(_object()).spec is parse(_object(generation=2)).spec
    long = MINIMAL | {"unknown": "x" * 5000}
    assert parse(_object(long)).spec == parse(_object(long)).spec
    assert parse(_object(long)).spec is not parse(_object(long)).spec


def test_whole_number_with_a_point_is_an_integer_as_for_kubectl() -> None:
    assert parse(_object(changed(MINIMAL, {"replicas.max": 12.0}))).spec.replicas.max == 12


def test_unknown_fields_are_ignored_everywhere() -> None:
    newer = changed(FULL, {"zones": 3, "replicas.perZone": 1, "variants.0.sleep": {"level": 1}})
    assert parse(_object(newer)).spec == parse(_object(FULL)).spec


def test_object_stored_before_a_field_existed_parses() -> None:
    # What the first release could store: nothing but the three fields without a default.
    old = yaml.safe_load("""
        modelName: m
        variants: [{name: v, targetRef: {name: t}}]
        replicas: {max: 4}
    """)
    spec = parse(_object(old)).spec
    assert (spec.replicas.floor, spec.warm_pool.size, spec.burst) == (2, 0, None)


def test_python_names_are_not_names_of_the_api() -> None:
    spec = changed(MINIMAL, {"model_name": "m"})
    del spec["modelName"]
    assert [problem.path for problem in _problems(_object(spec))] == ["spec.modelName"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.integers(), children),
    max_leaves=12,
)


def _parse_or_refuse(obj: Any) -> None:
    problems: tuple[FieldProblem, ...] | None = None
    try:
        assert isinstance(parse(obj), InferencePool)
    except InvalidPoolError as error:
        problems = error.problems
    assert problems is None or all(str(problem) for problem in problems)
    assert problems != ()


@given(JSON)
def test_anything_is_parsed_or_refused(obj: Any) -> None:
    _parse_or_refuse(obj)


@given(st.sampled_from(paths(_object(FULL))), JSON)
def test_a_valid_object_with_anything_in_one_place_is_parsed_or_refused(
    path: str, value: Any
) -> None:
    _parse_or_refuse(changed(_object(FULL), {path: value}))


def test_hopelessly_deep_or_huge_input_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"spec": deep}
    for obj in (deep, _object({"modelName": 10**5000}), _object({"modelName": "\ud800"})):
        assert _problems(obj)[0].message == "must be plain JSON"
    nested = json.loads('{"spec": ' * 500 + "{}" + "}" * 500)
    assert _problems(_object() | {"spec": nested})
