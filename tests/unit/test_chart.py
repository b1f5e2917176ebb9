"""The chart as Helm renders it: its objects, what Kubernetes says to them, what it refuses."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils as schemas
from typer.main import get_command

from spillway import cli
from tests.unit.chart_values import EVERYTHING, LITELLM, SEMANTIC_CACHE
from tools import gen_argocd, gen_chart_callback, gen_chart_readme, gen_dashboard, gen_manifests
from tools.helm import CHART, ROOT, render

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = [f"1.{minor}" for minor in range(30, 37)]
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "one replica": {"replicaCount": 1},
    "read-only": {"readOnly": True, "defaultMode": "Advise"},
    "no CRD, no rights": {"crds": {"install": False}, "rbac": {"create": False}},
    "an account of theirs": {"serviceAccount": {"create": False, "name": "theirs"}},
    # A name that YAML takes for a truth value.
    "names": {"nameOverride": "n", "fullnameOverride": "y"},
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "a catalog of theirs": {"priceCatalog": {"existingConfigMap": "prices"}},
    "LiteLLM, its cache": {"litellm": SEMANTIC_CACHE},
    "no Jobs": {"releaseHook": {"enabled": False}, "routeReset": {"enabled": False}},
    "confined, without nodes": {
        "watchNamespaces": ["serving"],
        "settings": {"watch_nodes": False},
    },
    "in another namespace": {
        "namespaceOverride": "elsewhere",
        "serviceMonitor": {"enabled": True, "namespace": "monitoring"},
        "podMonitor": {"enabled": True, "namespace": "monitoring"},
        "prometheusRule": {"enabled": True, "namespace": "monitoring"},
        "dashboard": {"enabled": True, "namespace": "monitoring"},
    },
}
#: Values that the chart passes on as they are, to containers that are not its own.
THEIRS = {"signer", "wait"}
RULES: dict[str, Any] = {"prometheusRule": {"enabled": True}}


def objects(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What the chart renders with these values; the caller's own."""
    return copy.deepcopy(_rendered(json.dumps(values)))


@cache
def _rendered(values: str) -> list[dict[str, Any]]:
    texts = render(json.loads(values))
    del texts["NOTES.txt"]
    return [d for t in texts.values() for d in yaml.load_all(t, Loader=yaml.CSafeLoader) if d]


def one(kind: str, values: dict[str, Any] | None = None, suffix: str = "") -> dict[str, Any]:
    found = [
        d for d in objects(values)
        if d["kind"] == kind and d["metadata"]["name"] == f"spillway-operator{suffix}"
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pod specs of everything that makes pods."""
    found = []
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            found.append(spec)
        elif document["kind"] == "CronJob":
            found.append(spec["jobTemplate"]["spec"]["template"]["spec"])
        elif document["kind"] in {"Deployment", "Job"}:
            found.append(spec["template"]["spec"])
    return found


@pytest.fixture(scope="module")
def _schemas_read_once() -> Iterator[None]:
    """The library reads a version's definitions, megabytes, anew for every object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas, "schema_contents", cache(schemas.schema_contents))
        yield


@cache
def known_objects() -> list[dict[str, Any]]:
    """Every object of the matrix and of manifests/ whose kind Kubernetes itself has a schema of."""
    theirs = {
        "apiextensions.k8s.io", "argoproj.io", "kustomize.config.k8s.io", "monitoring.coreos.com",
        "spillway.dev",
    }  # fmt: skip
    rendered = [d for values in MATRIX.values() for d in objects(values)]
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        rendered += yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    # Each once, however many values leave it as it is.
    found = map(json.loads, {json.dumps(d, sort_keys=True): None for d in rendered})
    return [d for d in found if d["apiVersion"].partition("/")[0] not in theirs]


@pytest.mark.slow
@pytest.mark.usefixtures("_schemas_read_once")
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_installed_is_valid_in_every_kubernetes(version: str) -> None:
    known = known_objects()
    assert {d["kind"] for d in known} >= {"Deployment", "CronJob", "Job", "NetworkPolicy", "Pod"}
    for document in known:
        kubernetes_validate.validate(document, version, strict=True)


def test_every_object_says_what_it_is_part_of() -> None:
    for values in MATRIX.values():
        for document in objects(values):
            assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "spillway"


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_pods_meet_the_restricted_standard(values: dict[str, Any]) -> None:
    for pod in pods(objects(values)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            if container["name"] in THEIRS:
                continue
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        kinds = {next(iter(set(v) - {"name"})) for v in pod.get("volumes", ())}
        assert kinds <= {"emptyDir", "configMap", "projected", "secret"}


def test_nothing_is_on_by_default_whose_command_the_image_does_not_know() -> None:
    known = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    containers = [c for pod in pods(objects()) for c in pod["containers"] if "args" in c]
    assert containers
    for container in containers:
        assert container["args"][0] in known


@pytest.mark.usefixtures("_schemas_read_once")
def test_the_schemas_find_what_is_wrong() -> None:
    wrong = one("Deployment")
    wrong["spec"]["replica"] = 2
    for version in VERSIONS:
        with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
            kubernetes_validate.validate(wrong, version, strict=True)


def test_lint_finds_nothing_and_the_icon_is_in_the_repository() -> None:
    assert helm.lint(str(CHART))["messages"] == []
    (chart,) = yaml.safe_load_all((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    home = "https://raw.githubusercontent.com/spillway-dev/spillway/main/"
    assert (CHART.parents[1] / chart["icon"].removeprefix(home)).is_file()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicaCounts": 2}, "replicaCounts"),
        ({"image": {"digest": "sha256:1"}}, "digest"),
        ({"settings": {"read_only": True}}, "read_only"),
        ({"replicaCount": 0}, "replicaCount"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "minAvailable"),
        ({"prometheusRule": {"disabled": ["NoLeader"]}}, "disabled"),
        ({"serviceMonitor": {"scrapeTimeout": "soon"}}, "scrapeTimeout"),
        ({"livenessProbe": {"periodSeconds": 0}}, "periodSeconds"),
        ({"prometheus": {"url": "prometheus:9090"}}, "url"),
        ({"serviceMonitor": {"enabled": "yes"}}, "enabled"),
        ({"defaultMode": "Paused"}, "defaultMode"),
        ({"litellm": {"enabled": True}}, "masterKeySecret"),
        ({"litellm": {**LITELLM, "semanticCache": {"enabled": True}}}, "redis.host"),
        ({"litellm": {**LITELLM, "stays": ["user:me"]}}, "stays"),
        ({"litellm": {**LITELLM, "image": {"digest": "sha256:1"}}}, "digest"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render(values)


def test_every_value_is_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def walk(part: dict[str, Any], where: str) -> None:
        if "properties" in part and where != "global.":
            # A parent chart's global values are its own affair.
            assert part.get("additionalProperties") is False, where
        for name, inner in part.get("properties", {}).items():
            assert inner.get("description", "").endswith((".", ")")), f"{where}{name}"
            walk(inner, f"{where}{name}.")

    walk(schema, "")


def test_a_digest_pins_the_image() -> None:
    digest = "sha256:" + "a" * 64
    (container,) = one("Deployment", {"image": {"digest": digest, "tag": "9"}})["spec"]["template"][
        "spec"
    ]["containers"]
    assert container["image"] == f"spillway@{digest}"


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"image": {"registry": "r.example.com"}}, "r.example.com/spillway:0.1.0"),
        (
            {"image": {"registry": "r.example.com"}, "global": {"imageRegistry": "m.example.com/"}},
            "m.example.com/spillway:0.1.0",
        ),
    ],
)
def test_a_mirror_is_named_once(values: dict[str, Any], image: str) -> None:
    found = pods(objects(values))
    assert len(found) == 4, "the operator, its two Jobs and helm test"
    assert {c["image"] for pod in found for c in pod["containers"]} == {image}


def test_what_a_parent_chart_shares_reaches_every_pod() -> None:
    shared = {
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "priorityClassName": "important",
        "theirs": 1,
    }
    found = pods(objects({"global": shared}))
    assert len(found) == 4
    for pod in found:
        assert pod["imagePullSecrets"] == [{"name": "pull"}]
        assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "system"}
        assert pod["tolerations"] == shared["tolerations"]
        assert pod["priorityClassName"] == "important"


def test_nothing_but_the_operator_is_behind_its_service() -> None:
    documents = objects()
    selector = one("Service")["spec"]["selector"]

    def labels(document: dict[str, Any]) -> dict[str, str]:
        spec = document["spec"]
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template", document)
        found: dict[str, str] = template["metadata"]["labels"]
        return found

    behind = [
        d["kind"] for d in documents
        if d["kind"] in {"Pod", "Job", "CronJob", "Deployment"}
        and selector.items() <= labels(d).items()
    ]  # fmt: skip
    assert behind == ["Deployment"]


def test_every_object_of_its_own_follows_the_namespace() -> None:
    found = {
        (d["kind"], d["metadata"]["namespace"])
        for d in objects(MATRIX["in another namespace"]) if "namespace" in d["metadata"]
    }  # fmt: skip
    assert {namespace for _, namespace in found} == {"elsewhere", "monitoring"}
    assert {kind for kind, namespace in found if namespace == "monitoring"} == {
        "ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap",
    }  # fmt: skip
    monitor = one("ServiceMonitor", MATRIX["in another namespace"])
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["elsewhere"]}
    bindings = [d for d in objects(MATRIX["in another namespace"]) if "subjects" in d]
    assert {s["namespace"] for d in bindings for s in d["subjects"]} == {"elsewhere"}


def test_no_name_is_longer_than_its_kind_allows() -> None:
    texts = render(name="r" * 53)
    found = [d for n, t in texts.items() if n != "NOTES.txt" for d in yaml.safe_load_all(t) if d]
    longest = {"CronJob": 52, "Job": 63, "Pod": 63, "Service": 63}
    for document in found:
        assert len(document["metadata"]["name"]) <= longest.get(document["kind"], 253)


def test_objects_of_theirs_are_templates() -> None:
    text = "kind: Secret\napiVersion: v1\nmetadata: {name: '{{ .Release.Name }}-s', labels: {}}"
    (found,) = [d for d in objects({"extraObjects": [text]}) if d["kind"] == "Secret"]
    assert found["metadata"]["name"] == "spillway-s"


def test_alerts_can_be_left_out_and_added() -> None:
    own = [r for g in one("PrometheusRule", RULES)["spec"]["groups"] for r in g["rules"]]
    changed = {"disabled": ["SpillwayNoLeader"], "additionalGroups": [{"name": "x", "rules": []}]}
    rule = one("PrometheusRule", {"prometheusRule": {**RULES["prometheusRule"], **changed}})
    left = [r for g in rule["spec"]["groups"] for r in g["rules"]]
    assert {r["alert"] for r in own} - {r["alert"] for r in left} == {"SpillwayNoLeader"}
    assert rule["spec"]["groups"][-1] == {"name": "x", "rules": []}


def test_confined_to_namespaces_without_nodes_nothing_at_all_is_granted_everywhere() -> None:
    documents = objects(MATRIX["confined, without nodes"])
    assert [d["metadata"]["name"] for d in documents if d["kind"] == "ClusterRoleBinding"] == []
    names = {d["metadata"]["name"] for d in documents if d["kind"] == "ClusterRole"}
    assert "spillway-operator-cluster" not in names


SCOPED = ("", "-scale-targets", "-route-reset")


def test_confined_to_namespaces_nothing_of_workloads_is_granted_everywhere() -> None:
    documents = objects({"watchNamespaces": ["a", "b"]})
    wide = {d["roleRef"]["name"] for d in documents if d["kind"] == "ClusterRoleBinding"}
    assert wide == {"spillway-operator-cluster"}
    narrow = {
        (d["metadata"]["namespace"], d["roleRef"]["name"])
        for d in documents if d["kind"] == "RoleBinding"
    }  # fmt: skip
    assert narrow >= {(n, f"spillway-operator{s}") for n in "ab" for s in SCOPED}
    role = one("ClusterRole", {"watchNamespaces": ["a", "b"]}, "-cluster")
    assert [rule["resources"] for rule in role["rules"]] == [["nodes"]]


def test_one_replica_has_no_disruption_budget_that_would_block_a_drain() -> None:
    kinds = {d["kind"] for d in objects({"replicaCount": 1})}
    assert "PodDisruptionBudget" not in kinds
    asked = one("PodDisruptionBudget", {"podDisruptionBudget": {"minAvailable": "50%"}})["spec"]
    assert (asked["minAvailable"], "maxUnavailable" in asked) == ("50%", False)
    assert one("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_default_mode_is_the_definitions_default() -> None:
    for mode in ("Active", "Advise"):
        (crd,) = [
            d for d in objects({"defaultMode": mode}) if d["kind"] == "CustomResourceDefinition"
        ]
        (version,) = crd["spec"]["versions"]
        properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert properties["mode"]["default"] == mode


def test_who_edits_pools_is_decided_by_hand_unless_asked_otherwise() -> None:
    edit = "rbac.authorization.k8s.io/aggregate-to-edit"
    assert edit not in one("ClusterRole", suffix="-pool-editor")["metadata"]["labels"]
    asked = {"rbac": {"aggregatePoolEditor": True}}
    assert one("ClusterRole", asked, "-pool-editor")["metadata"]["labels"][edit] == "true"
    assert edit in one("ClusterRole", suffix="-pool-viewer")["metadata"]["labels"]


def test_every_rule_says_what_for() -> None:
    texts = render()
    for text in (texts["rbac.yaml"].split("# For people.")[0], texts["route-reset.yaml"]):
        lines = text.splitlines()
        rules = [n for n, line in enumerate(lines) if line.strip().startswith("- apiGroups")]
        assert rules
        for number in rules:
            assert lines[number - 1].strip().startswith("#"), lines[number : number + 2]


def test_the_route_reset_may_do_nothing_else() -> None:
    role = one("ClusterRole", None, "-route-reset")
    granted = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert granted == {
        ("inferencepools", "list"), ("httproutes", "list"), ("httproutes", "patch"),
    }  # fmt: skip


def test_litellm_gets_its_configuration_the_one_file_and_keys_that_the_operator_never_sees() -> (
    None
):
    values = {"litellm": SEMANTIC_CACHE}
    held = one("ConfigMap", values, "-litellm")["data"]
    assert held["litellm_callback.py"] == gen_chart_callback.SOURCE.read_text(encoding="utf-8")
    config = yaml.safe_load(held["config.yaml"])
    assert config["litellm_settings"]["callbacks"][0] == "litellm_callback.handler"
    assert config["litellm_settings"]["cache_params"]["type"] == "redis-semantic"
    assert config["litellm_settings"]["drop_params"] is True
    assert config["router_settings"]["fallbacks"] == LITELLM["fallbacks"]
    assert config["model_list"][-1]["model_name"] == "auto"
    (proxy,) = one("Deployment", values, "-litellm")["spec"]["template"]["spec"]["containers"]
    given = {
        each["name"]: each["valueFrom"]["secretKeyRef"]["name"]
        for each in proxy["env"] if "valueFrom" in each
    }  # fmt: skip
    assert given == {
        "TOGETHER_API_KEY": "together", "LITELLM_MASTER_KEY": "litellm", "REDIS_PASSWORD": "redis",
    }  # fmt: skip
    url = next(each["value"] for each in proxy["env"] if each["name"] == "SPILLWAY_URL")
    service = one("Service", values)
    (port,) = service["spec"]["ports"]
    assert url == f"http://{service['metadata']['name']}.spillway-system.svc:{port['port']}"
    shut = one("NetworkPolicy", {**values, "networkPolicy": EVERYTHING["networkPolicy"]})
    (rule,) = shut["spec"]["ingress"]
    let_in = rule["from"][-1]["podSelector"]["matchLabels"]
    deployed = one("Deployment", values, "-litellm")["spec"]["template"]["metadata"]["labels"]
    assert let_in.items() <= deployed.items(), "the operator lets its proxies in"
    others = [d for d in objects(values) if d["metadata"]["name"] != "spillway-operator-litellm"]
    assert "secretKeyRef" not in json.dumps(others)
    assert [d for d in objects() if d["metadata"]["name"].endswith("-litellm")] == []


def test_every_alert_leads_to_its_runbook() -> None:
    rule = one("PrometheusRule", RULES)
    page = (ROOT / "docs" / "how-to" / "alerts.md").read_text(encoding="utf-8")
    headings = {line[3:].strip().lower() for line in page.splitlines() if line.startswith("## ")}
    alerts = [r for group in rule["spec"]["groups"] for r in group["rules"]]
    for alert in alerts:
        anchor = alert["annotations"]["runbook_url"].partition("#")[2]
        assert anchor == alert["alert"].lower()
        assert anchor in headings
    assert len(headings) == len(alerts)


def test_the_dashboard_is_the_file_as_it_is() -> None:
    config = one("ConfigMap", {"dashboard": {"enabled": True}}, "-dashboard")
    assert json.loads(config["data"]["spillway.json"]) == gen_dashboard.dashboard()


def test_generated_files_are_fresh() -> None:
    assert gen_manifests.stale(gen_manifests.files()) == []
    for path, text in (
        (gen_dashboard.TARGET, json.dumps(gen_dashboard.dashboard(), indent=2) + "\n"),
        (gen_argocd.TARGET, gen_argocd.config_map()),
        (gen_chart_readme.TARGET, gen_chart_readme.readme()),
    ):
        assert path.read_text(encoding="utf-8") == text, path.name
