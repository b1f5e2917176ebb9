"""``spillway validate`` and ``spillway crd``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from spillway.api.crd import render
from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from tests.unit.controller.fakes import NAMESPACE, pool_object

SAMPLE = Path(__file__).resolve().parents[3] / "manifests/samples/inferencepool.yaml"


def validate(*args: str | Path, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", *map(str, args)], input=stdin)
    return result.exit_code, result.output


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(pool_object("bad", replicas={"floor": 5, "max": 2})))
    return path


def test_the_sample_is_valid() -> None:
    code, output = validate(SAMPLE)
    assert code == ExitCode.OK
    assert output.startswith("valid")


def test_an_invalid_pool_is_code_5_and_says_which_field(bad: Path) -> None:
    code, output = validate(SAMPLE, bad)
    assert code == ExitCode.INVALID
    assert f"invalid  {bad} bad" in output
    assert "spec.replicas.floor must be at most replicas.max, got 5" in output


def test_json_has_every_problem_of_every_pool(bad: Path) -> None:
    code, output = validate("--json", SAMPLE, bad)
    assert code == ExitCode.INVALID
    found = {pool["name"]: pool["problems"] for pool in json.loads(output)["pools"]}
    assert found.pop("bad") == ["spec.replicas.floor must be at most replicas.max, got 5"]
    assert all(problems == [] for problems in found.values())


def test_lists_and_several_documents_are_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    listed = {"apiVersion": "v1", "kind": "List", "items": [pool_object("a"), "text"]}
    others = [pool_object("b"), {"kind": "Service"}, None, "text"]
    path.write_text(yaml.safe_dump_all([listed, *others]))
    _, output = validate("--json", path)
    assert [pool["name"] for pool in json.loads(output)["pools"]] == ["a", "b"]


def test_a_folder_is_searched_and_standard_input_is_read(tmp_path: Path, bad: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "good.json").write_text(json.dumps(pool_object("good")))
    (tmp_path / "notes.txt").write_text("a: [")
    code, output = validate("--json", tmp_path)
    assert code == ExitCode.INVALID
    assert {pool["name"] for pool in json.loads(output)["pools"]} == {"good", "bad"}
    code, output = validate("-", stdin=bad.read_text())
    assert code == ExitCode.INVALID
    assert "invalid  - bad" in output


def test_a_folder_without_manifests_is_code_2(tmp_path: Path) -> None:
    code, output = validate(tmp_path)
    assert code == ExitCode.USAGE
    assert "no .yaml, .yml or .json file" in output


def test_warnings_fail_only_where_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": NAMESPACE},
        "spec": {"hard": {"requests.nvidia.com/gpu": 2}},
    }
    path.write_text(yaml.safe_dump_all([pool_object("a"), quota]))
    code, output = validate(path)
    assert code == ExitCode.OK
    assert "warning" in output
    assert validate("--strict", path)[0] == ExitCode.INVALID


def test_a_price_file_that_can_not_be_used_is_code_2(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {x: {inputPerMillion: cheap, outputPerMillion: '1'}}")
    code, output = validate(SAMPLE, "--price-catalog", prices)
    assert code == ExitCode.USAGE
    assert "models.x.inputPerMillion" in output
    prices.write_text("{}")
    assert validate(SAMPLE, "--price-catalog", prices)[0] == ExitCode.OK


def test_another_groups_pool_of_the_same_kind_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "gaie.yaml"
    gaie = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool"}
    path.write_text(yaml.safe_dump(gaie))
    code, output = validate(path)
    assert code == ExitCode.USAGE
    assert "no InferencePool of spillway.dev in" in output


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe",
        b"a: 2026-13-45",
        b"[" * 600,
        b"!!python/object:x {}",
        b"a: {b: 1, b: 2}",
        b"? {a: b}\n: c",
    ],
)
def test_a_file_that_is_no_yaml_is_code_5_and_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    code, output = validate(path)
    assert code == ExitCode.INVALID
    assert str(path) in output
    assert "not YAML" in output


def test_a_file_that_is_not_there_is_code_2(tmp_path: Path) -> None:
    code, output = validate(tmp_path / "nowhere.yaml")
    assert code == ExitCode.USAGE
    assert "nowhere.yaml" in output


def test_crd_prints_what_is_applied() -> None:
    result = CliRunner().invoke(app, ["crd"])
    assert result.exit_code == ExitCode.OK
    assert result.output == render()
    assert yaml.safe_load(result.output)["kind"] == "CustomResourceDefinition"


def test_without_a_command_the_help_lists_them() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert all(command in output for command in ("run", "crd", "validate"))
