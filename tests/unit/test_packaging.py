"""The chart, the manifests and the image agree with each other and with the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import spillway
from spillway.api import names
from spillway.controller.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "spillway"
BASE = ROOT / "manifests" / "base"
Rule = tuple[tuple[str, ...], ...]


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d]


def rules(role: dict[str, Any]) -> list[Rule]:
    """Rules without the names of single objects, which a release may change."""
    return [
        (tuple(r["apiGroups"]), tuple(r["resources"]), tuple(r["verbs"])) for r in role["rules"]
    ]


def operator_rules() -> list[Rule]:
    """What the operator itself is granted, roles for people left out."""
    docs = documents(BASE / "rbac.yaml")
    return [
        rule
        for doc in docs
        if doc["kind"] in {"ClusterRole", "Role"}
        and doc["metadata"]["name"] in {"spillway-operator", "spillway-operator-cluster"}
        for rule in rules(doc)
    ]


def test_operator_reads_no_secret_and_has_no_wildcard() -> None:
    for groups, resources, verbs in operator_rules():
        assert "secrets" not in resources
        assert not {"*"} & {*groups, *resources, *verbs}
        assert not {"delete", "deletecollection", "impersonate", "escalate", "bind"} & set(verbs)


def test_the_admission_policies_name_what_spillway_writes_and_who_writes_it() -> None:
    found = documents(ROOT / "manifests/components/admission-policy/admission-policy.yaml")
    assert [(d["kind"], d["metadata"]["name"]) for d in found[1::2]] == [
        ("ValidatingAdmissionPolicyBinding", d["spec"]["policyName"]) for d in found[1::2]
    ]
    own: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for policy in found[::2]:
        spec = policy["spec"]
        variables = {v["name"]: v["expression"] for v in spec["variables"]}
        (condition,) = spec["matchConditions"]
        own[policy["metadata"]["name"]] = (
            set(json.loads(variables["ownLabels"])),
            set(json.loads(variables["ownAnnotations"])),
            set(re.findall(r'"system:serviceaccount:([^"]+)"', condition["expression"])),
        )
    (account,) = documents(BASE / "serviceaccount.yaml")
    operator = f"{account['metadata']['namespace']}:{account['metadata']['name']}"
    marks = {
        names.OVERFLOW_ANNOTATION,
        names.DRAIN_DEADLINE_ANNOTATION,
        names.DELETION_COST_ANNOTATION,
        names.DO_NOT_DISRUPT_ANNOTATION,
    }
    assert own == {
        "spillway-operator-marks": ({names.ROLE_LABEL}, marks, {operator}),
        "spillway-operator-weights": (
            set(), {names.ROUTE_WEIGHTS_ANNOTATION}, {operator, f"{operator}-route-reset"},
        ),
    }  # fmt: skip


def test_operator_changes_workloads_through_their_scale_alone() -> None:
    for groups, resources, verbs in operator_rules():
        if "apps" in groups and not all(name.endswith("/scale") for name in resources):
            assert set(verbs) <= {"get", "list", "watch"}


def words_in_the_code() -> set[str]:
    """Every string literal of the package."""
    return {
        node.value
        for source in (ROOT / "operator").rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.slow
def test_every_resource_that_is_granted_is_one_that_the_code_names() -> None:
    granted = {name.split("/")[0] for _, resources, _ in operator_rules() for name in resources}
    # Kopf asks for the definitions; no module of ours does.
    assert granted - words_in_the_code() == {"customresourcedefinitions"}


def test_every_resource_that_the_code_asks_for_is_granted() -> None:
    asked: set[str] = set()
    for source in (ROOT / "operator").rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        asked |= set(re.findall(r'(?:resource_path|watch)\(\s*[^,()]+,\s*"([a-z]+)"', text))
    granted = {name for _, resources, _ in operator_rules() for name in resources}
    assert asked
    assert asked - granted == set()


def test_bindings_lead_to_roles_that_exist() -> None:
    docs = documents(BASE / "rbac.yaml")
    names = {(d["kind"], d["metadata"]["name"]) for d in docs}
    account = documents(BASE / "serviceaccount.yaml")[0]["metadata"]["name"]
    for doc in (d for d in docs if d["kind"].endswith("Binding")):
        assert (doc["roleRef"]["kind"], doc["roleRef"]["name"]) in names
        assert [subject["name"] for subject in doc["subjects"]] == [account]


def environment(deployment: dict[str, Any]) -> set[str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"] for variable in container["env"]}


def test_variables_of_chart_and_manifests_are_settings() -> None:
    known = {f"SPILLWAY_{name.upper()}" for name in Settings.model_fields}
    assert environment(documents(BASE / "deployment.yaml")[0]) <= known
    template = (CHART / "templates/deployment.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"name: (SPILLWAY_[A-Z_]+)$", template, re.MULTILINE)) <= known
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    refused = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    assert refused <= set(Settings.model_fields)


@pytest.mark.parametrize("path", ["deployment.yaml"])
def test_pods_run_with_the_least_that_works(path: str) -> None:
    pod = documents(BASE / path)[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_service_selects_the_operators_pods() -> None:
    selector = documents(BASE / "service.yaml")[0]["spec"]["selector"]
    deployment = documents(BASE / "deployment.yaml")[0]["spec"]
    assert selector == deployment["selector"]["matchLabels"]
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()


def test_versions_agree() -> None:
    chart = documents(CHART / "Chart.yaml")[0]
    (container,) = documents(BASE / "deployment.yaml")[0]["spec"]["template"]["spec"]["containers"]
    assert chart["appVersion"] == spillway.__version__
    assert container["image"].endswith(f":{spillway.__version__}")


def test_chart_carries_the_checked_in_crd() -> None:
    name = "spillway.dev_inferencepools.yaml"
    assert (CHART / "files" / name).read_text() == (ROOT / "crds" / name).read_text()
    assert documents(CHART / "files" / name)[0]["kind"] == "CustomResourceDefinition"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests").rglob("kustomization.yaml")), ids=lambda p: p.parent.name
)
def test_kustomizations_name_files_that_exist(path: Path) -> None:
    (kustomization,) = documents(path)
    for resource in kustomization.get("resources", ()):
        assert (path.parent / resource).exists(), resource


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema.get("properties", {})
    return found


def test_schema_describes_every_value_and_nothing_else() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = documents(CHART / "values.yaml")[0]

    def compare(value: dict[str, Any], part: dict[str, Any], where: str) -> None:
        for key, inner in value.items():
            assert key in properties(part), f"{where}{key}"
            if isinstance(inner, dict) and inner and properties(properties(part)[key]):
                compare(inner, properties(part)[key], f"{where}{key}.")
        assert set(properties(part)) - set(value) <= {"global", "accelerators", "models"}, where

    compare(values, schema, "")


def test_image_installs_what_the_lock_says_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    steps = re.findall(r"^[A-Z]+ (?:.*\\\n)*.*$", text, re.MULTILINE)
    installs = re.findall(r"install\b(?:[^&]|\\\n)*", text)
    for install in installs:
        locked = "--require-hashes" in install and "-r requirements/" in install
        assert locked or ("--no-deps" in install and "--no-index" in install), install
    assert any("-r requirements/runtime.txt" in install for install in installs)
    users = [step.split()[1] for step in steps if step.startswith("USER ")]
    assert users == ["65532:65532"]
    assert 'ENTRYPOINT ["spillway"]' in steps
    assert 'CMD ["run"]' in steps


def test_image_copies_files_that_exist_and_are_not_ignored() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copies = re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()[:-1]}
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert sources == kept
