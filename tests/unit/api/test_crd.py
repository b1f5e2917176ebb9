from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from spillway.api import crd
from spillway.api.schema import UnstructuralError, structural_schema
from spillway.api.validation import parse
from tests.pool_table import MINIMAL, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKED_IN = Path(__file__).parents[3] / "crds" / "spillway.dev_inferencepools.yaml"
Schema = dict[str, Any]


@functools.cache
def _version() -> dict[str, Any]:
    version: dict[str, Any] = yaml.safe_load(crd.render())["spec"]["versions"][0]
    return version


def _schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _schemas(inner, f"{path}.{name}")
    if "items" in schema:
        yield from _schemas(schema["items"], f"{path}[]")


def _of(part: str) -> list[tuple[str, Schema]]:
    return list(_schemas(_version()["schema"]["openAPIV3Schema"]["properties"][part], part))


def test_checked_in_file_is_what_the_models_say() -> None:
    assert CHECKED_IN.read_text(encoding="utf-8") == crd.render(), "run make crds"


def test_printer_columns_lead_to_fields_of_the_schema() -> None:
    columns = {c["name"]: c["jsonPath"] for c in _version()["additionalPrinterColumns"]}
    assert list(columns) == [
        "Model", "Floor", "Serving", "Warm", "Desired", "Overflow", "$/h", "Ready", "Age",
    ]  # fmt: skip
    known = {f".{path}" for part in ("spec", "status") for path, _ in _of(part)}
    by_filter = {columns.pop("Ready"), columns.pop("Age")}
    assert by_filter == {
        '.status.conditions[?(@.type=="Ready")].status',
        ".metadata.creationTimestamp",
    }
    assert set(columns.values()) <= known


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_has_a_description_on_one_line(part: str) -> None:
    silent = [
        path
        for path, schema in _of(part)
        if not path.endswith("[]") and not schema.get("description", "").strip(". ")
    ]
    assert silent == []
    assert not [path for path, schema in _of(part) if "\n" in schema.get("description", "")]


@pytest.mark.parametrize("part", ["spec", "status"])
def test_schema_is_structural(part: str) -> None:
    for path, schema in _of(part):
        assert schema.get("type") or schema.get("x-kubernetes-int-or-string"), path
        assert not schema.keys() & {"$ref", "$defs", "anyOf", "allOf", "oneOf", "title"}, path


def test_texts_and_lists_of_the_spec_are_bounded_for_cels_cost_limit() -> None:
    for path, schema in _of("spec"):
        if schema.get("type") == "string" and "enum" not in schema:
            assert schema["maxLength"] <= 253, path
        if schema.get("type") == "array":
            assert schema["maxItems"] <= 8, path
            assert schema["x-kubernetes-list-type"] == "map", path


def test_status_has_no_defaults() -> None:
    assert [path for path, schema in _of("status") if "default" in schema] == []


def test_every_rule_says_what_is_accepted() -> None:
    rules = [
        rule for _, schema in _of("spec") for rule in schema.get("x-kubernetes-validations", ())
    ]
    assert len(rules) > 30
    assert all(rule["message"] for rule in rules)


def _fill(schema: Schema, value: Any) -> Any:
    """Defaulting as the API server does it: from the outside inwards."""
    if schema.get("type") == "array":
        return [_fill(schema["items"], item) for item in value]
    if schema.get("type") != "object":
        return value
    properties = schema.get("properties", {})
    given = {k: s["default"] for k, s in properties.items() if "default" in s} | value
    return {key: _fill(properties[key], item) for key, item in given.items()}


def test_schemas_defaults_are_pydantics() -> None:
    case = Case("defaults", MINIMAL | {"burst": {"providers": [{"name": "together"}]}})
    filled = _fill(_of("spec")[0][1], case.spec)
    assert filled == parse(case.object).spec.model_dump(mode="json", exclude_none=True)


def test_what_a_structural_schema_cannot_say_is_an_error() -> None:
    class Loose(BaseModel):
        anything: dict[str, int] | int

    with pytest.raises(UnstructuralError, match="anyOf"):
        structural_schema(Loose)

    class Open(BaseModel):
        labels: dict[str, str]

    with pytest.raises(UnstructuralError, match=r"Open\.labels.*additionalProperties"):
        structural_schema(Open)


@pytest.mark.slow
def test_command_prints_writes_and_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "crd.yaml"
    assert crd.main(["--check", str(path)]) == 1
    assert "stale: run make crds" in capsys.readouterr().err
    assert crd.main(["--write", str(path)]) == 0
    assert crd.main(["--check", str(path)]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert crd.main(["--check", str(path)]) == 1
    assert crd.main([]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == crd.custom_resource_definition()
