"""The chart, install.yaml and kustomize on a real API server, and the operator run as they say.

Pods are fake here, so that the rig runs the operator's process: with the args and the variables of
the Deployment that was applied, and with a token of its ServiceAccount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python as helm
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    KIND,
    OVERFLOW_ANNOTATION,
    ROLE_LABEL,
    ROUTE_WEIGHTS_ANNOTATION,
)
from spillway.cli import app
from spillway.cli.exit_codes import ExitCode
from tests.doc_commands import Kind, commands, spillway_arguments
from tests.e2e.rig import binaries, gateway_api
from tests.e2e.rig.audit import writes
from tests.e2e.rig.gateway_api import ROUTE, http_route
from tests.e2e.rig.kubeapi import ApiError, KubeApi
from tests.e2e.rig.operator_process import FAST, OperatorProcess, variables
from tests.e2e.rig.rig import Rig
from tests.e2e.rig.rights import scale_target_role
from tests.e2e.rig.waiting import wait_for
from tests.e2e.scenario import Scenario
from tests.unit.chart_values import EVERYTHING, monitoring_crds
from tests.unit.test_chart import MATRIX, objects
from tools.helm import render

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "spillway"
COMPONENTS = sorted(p.name for p in (ROOT / "manifests" / "components").iterdir())
SAMPLE = ROOT / "manifests" / "samples" / "inferencepool.yaml"
SYSTEM = "spillway-system"
CRD = ("CustomResourceDefinition", "inferencepools.spillway.dev")
CLUSTER_ROLE = "rbac.authorization.k8s.io/v1/ClusterRole"
CLUSTER_ROLE_BINDING = "rbac.authorization.k8s.io/v1/ClusterRoleBinding"
DEPLOYMENT = ("Deployment", "spillway-operator", SYSTEM)


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A cluster on which nothing of Spillway is installed."""
    if request.config.getoption("--cluster") != "local":
        pytest.skip("needs a cluster of its own")
    with Rig("local", nodes=1, console=Console(quiet=True)) as rig:
        rig.cluster.api.delete(*CRD)
        for name in ("serving", "batch"):  # where the pools and the edges of the values are
            rig.cluster.create_namespace(name, unique=False)
        yield rig


def bound_everywhere(rig: Rig) -> set[str]:
    """ClusterRoleBindings of the installation."""
    found = {b["metadata"]["name"] for b in rig.cluster.api.list(CLUSTER_ROLE_BINDING)}
    return {name for name in found if name.startswith("spillway-operator")}


def who_rules(rig: Rig) -> set[str]:
    """Who owns the rules of the role that is put together from others."""
    path = rig.cluster.api.path(CLUSTER_ROLE, None, "spillway-operator-scale-targets")
    managed = rig.cluster.api.request("GET", path)["metadata"]["managedFields"]
    return {entry["manager"] for entry in managed if "f:rules" in entry["fieldsV1"]}


def overlay(folder: Path, components: list[str]) -> None:
    """Write a user's kustomization: the base with these components."""
    manifests = os.path.relpath(ROOT / "manifests", folder)
    used = [f"{manifests}/components/{name}" for name in components]
    text = yaml.safe_dump({"resources": [f"{manifests}/base"], "components": used})
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")


def own_container(pod: dict[str, Any]) -> dict[str, Any]:
    """The operator's container, beside those that a user adds."""
    (container,) = [c for c in pod["containers"] if c["name"] == "operator"]
    return dict(container)


def operator_settings(rig: Rig) -> dict[str, Any]:
    """Settings that the Deployment in the cluster gives its container."""
    return settings_of(own_container(rig.cluster.api.get(*DEPLOYMENT)["spec"]["template"]["spec"]))


def settings_of(container: dict[str, Any]) -> dict[str, Any]:
    """Settings among a container's variables, with what the field references would give."""
    fields = {"metadata.namespace": SYSTEM, "metadata.name": "installed"}
    return {
        v["name"].removeprefix("SPILLWAY_").lower(): v.get("value")
        or fields[v["valueFrom"]["fieldRef"]["fieldPath"]]
        for v in container["env"]
        if v["name"].startswith("SPILLWAY_")
    }


def run_as_applied(rig: Rig, **more: Any) -> OperatorProcess:
    """Run what the Deployment in the cluster says, with its account's token and nothing more.

    Args:
        rig: Where it was applied.
        more: Settings that differ on this machine: ports, and the emulator's addresses.
    """
    pod = rig.cluster.api.get(*DEPLOYMENT)["spec"]["template"]["spec"]
    settings = operator_settings(rig)
    command, *args = own_container(pod)["args"]
    assert command == "run"
    kubeconfig = rig.cluster.kubeconfig_as(pod["serviceAccountName"], SYSTEM, cluster_role=None)
    settings |= {"scrape_url_template": rig.emulator.scrape_url_template, **more}
    operator = OperatorProcess(rig._owner, "installed", kubeconfig, settings, args)
    rig.operators["installed"] = operator
    rig.emulator.set_operators([operator.url])
    return operator.start()


def run_job(rig: Rig, pod: dict[str, Any]) -> dict[str, Any]:
    """Run a Job's pod as a process: its args and variables, and its account's token."""
    (container,) = pod["containers"]
    access = rig.cluster.kubeconfig_as(pod["serviceAccountName"], SYSTEM, cluster_role=None)
    command = ["spillway", *container["args"], "--json", "--kubeconfig", str(access)]
    answer = subprocess.run(
        [sys.executable, "-m", *command],
        env=variables(settings_of(container)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    done: dict[str, Any] = json.loads(answer.stdout)
    assert done["failures"] == []
    return done


def gives_back(rig: Rig, pool: Scenario, values: dict[str, Any]) -> None:
    """Run what the CronJob and the pre-delete hook of a release with these values run."""
    jobs = {(d["kind"], d["metadata"]["name"]): d["spec"] for d in objects(values)
            if d["kind"] in {"Job", "CronJob"}}  # fmt: skip
    reset = jobs["CronJob", "spillway-operator-route-reset"]["jobTemplate"]["spec"]
    run_job(rig, reset["template"]["spec"])
    assert len(pool.pods("warm")) == 1, "the reset is none of theirs"
    release = jobs["Job", "spillway-operator-release"]
    done = run_job(rig, release["template"]["spec"])
    assert len(done["pods"]) == 1
    assert pool.annotation() is None
    assert len(pool.pods("serving")) == 3
    # The release keeps it for a minute, so that nobody undoes it; the next operator need not wait.
    rig.cluster.api.delete("Lease", "spillway-operator", SYSTEM)


def helm_test(operator: OperatorProcess) -> None:
    """What the pod of ``helm test`` runs, against this operator instead of the Service."""
    (container,) = yaml.safe_load(render()["tests/test-endpoints.yaml"])["spec"]["containers"]
    python, *arguments, address = container["command"]
    assert (python, address) == ("python", f"http://spillway-operator.{SYSTEM}.svc:8080")
    subprocess.run([sys.executable, *arguments, operator.url], check=True, timeout=30)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            [sys.executable, *arguments, "http://127.0.0.1:9"],
            check=True, timeout=30, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def refused_nothing(rig: Rig, operator: OperatorProcess, since: float) -> None:
    """Neither its log nor the API server's speaks of a right that it lacks."""
    text = operator.log.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "forbidden" in line.casefold()] == []
    codes = [w.code for w in writes(rig.cluster, "spillway-operator", since=since)]
    assert codes, "it has written"
    assert set(codes) & {401, 403} == set()


def its_token_writes_marks_alone(rig: Rig, pool: Scenario) -> None:
    """With the release's policies, its token marks pods, pools and routes and changes none."""
    api = rig.cluster.api
    account = api.get(*DEPLOYMENT)["spec"]["template"]["spec"]["serviceAccountName"]
    token = KubeApi(rig.cluster.kubeconfig_as(account, SYSTEM, cluster_role=None))
    gateway_api.install(api)
    backends = gateway_api.rule("chat", local=1000, cloud=0)
    api.apply(http_route("route", "serving", {"name": "other"}, backends))
    pod = pool.pods("serving")[0]["metadata"]
    one_of = {"Pod": pod["name"], KIND: pool.name, ROUTE: "route"}

    def patch(kind: str, body: Any) -> None:
        token.patch(kind, one_of[kind], "serving", body)

    def marked(kind: str, name: str, value: str | None, field: str = "annotations") -> None:
        patch(kind, {"metadata": {field: {name: value}}})

    def put(path: str, value: Any) -> list[dict[str, Any]]:
        return [{"op": "add", "path": path, "value": value}]

    for value in ("1", None):
        marked("Pod", DELETION_COST_ANNOTATION, value)
        marked(KIND, OVERFLOW_ANNOTATION, value)
        marked(ROUTE, ROUTE_WEIGHTS_ANNOTATION, value)
    for value in ("warm", "serving"):
        marked("Pod", ROLE_LABEL, value, "labels")
    patch(ROUTE, put("/spec/rules/1/backendRefs/0/weight", 700))
    patch(ROUTE, put("/spec/rules/1/backendRefs/1/weight", 300))

    finalizer = {"metadata": {"finalizers": ["example.com/f"]}}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}
    theirs = {"name": "theirs", "port": 80}
    header = [{"headers": [{"name": "x", "value": "y"}]}]
    for kind, body, says in (
        ("Pod", put("/spec/containers/0/image", "example.com/theirs"), "no spec of a pod"),
        ("Pod", {"metadata": {"labels": {"app": "theirs"}}}, f"labels alone: {ROLE_LABEL}"),
        ("Pod", {"metadata": {"labels": dict.fromkeys(pod["labels"])}}, "labels alone"),
        ("Pod", {"metadata": {"annotations": {"example.com/a": "b"}}}, "annotations alone"),
        ("Pod", finalizer, "nor finalizers"),
        ("Pod", {"metadata": {"ownerReferences": [owner]}}, "neither owners"),
        (KIND, {"spec": {"replicas": {"max": 99}}}, "no spec of a pod or a pool"),
        (KIND, {"spec": {"burst": None}}, "no spec of a pod or a pool"),
        (KIND, finalizer, "nor finalizers"),
        (ROUTE, {"spec": {"hostnames": ["theirs.example.com"]}}, "no spec of a route but weights"),
        (ROUTE, {"spec": {"rules": [backends]}}, "rules but weights"),
        (ROUTE, put("/spec/rules/1/matches", header), "rules but weights"),
        (ROUTE, put("/spec/rules/1/backendRefs/0/name", "theirs"), "rules but weights"),
        (ROUTE, put("/spec/rules/1/backendRefs/0/namespace", "theirs"), "rules but weights"),
        (ROUTE, put("/spec/rules/1/backendRefs/-", theirs), "rules but weights"),
        (ROUTE, put("/spec/rules/0/backendRefs", [theirs]), "rules but weights"),
        (ROUTE, {"metadata": {"labels": {"a": "b"}}}, "labels alone: none"),
        (ROUTE, {"metadata": {"annotations": {"a": "b"}}}, ROUTE_WEIGHTS_ANNOTATION),
    ):
        with pytest.raises(ApiError, match=says):
            patch(kind, body)
    # Whoever else may change them still can.
    api.patch("Pod", pod["name"], "serving", {"metadata": {"labels": {"x": "y"}}})
    api.delete(ROUTE, "route", "serving")


def reconciles_the_sample(
    rig: Rig, operator: OperatorProcess, values: dict[str, Any] | None = None
) -> None:
    """The sample becomes Ready; with the release's values, its Jobs then give it back."""
    began = time.time()
    pool = Scenario(rig, "serving", name="llama-8b", startup_seconds=0.5)
    pool.deploy()
    rig.cluster.kubectl("apply", "-f", str(SAMPLE))
    pool.wait_ready()
    pool.wait_roles(serving=2, warm=1)
    helm_test(operator)
    if values is not None:
        gives_back(rig, pool, values)
    refused_nothing(rig, operator, began)
    rig.stop_operators()
    if values is not None:
        its_token_writes_marks_alone(rig, pool)
    for kind, name in (("InferencePool", "llama-8b"), ("Deployment", "llama-8b")):
        rig.cluster.api.delete(kind, name, "serving")
    rig.cluster.api.delete("Service", "llama-8b", "serving")


def test_helm_installs_upgrades_and_leaves_the_pools_when_it_goes(own: Rig) -> None:
    for crd in monitoring_crds():
        own.cluster.install_crd(crd)
    values = {
        **EVERYTHING,
        # No node of the rig has their labels.
        "global": {**EVERYTHING["global"], "nodeSelector": {}},
        "watchNamespaces": [],
        "extraArgs": [],
        "prometheus": {"url": own.prometheus.url},
        "priceCatalog": {},
        "settings": dict(FAST),
    }
    with helm.Config(kubeconfig_path=own.cluster.kubeconfig, namespace=SYSTEM) as config:
        release = config.install(CHART, "spillway", values, wait="watcher", timeout=90)
        assert release["status"] == "deployed"
        labels = own.cluster.api.get(*CRD)["metadata"]["annotations"]
        assert labels["helm.sh/resource-policy"] == "keep"
        reconciles_the_sample(own, run_as_applied(own), values)

        # Confined to one namespace, without nodes: nothing is granted everywhere any more.
        confined = {
            **values,
            "watchNamespaces": ["serving"],
            "settings": {**FAST, "watch_nodes": False},
            "defaultMode": "Advise",
        }
        config.upgrade(CHART, "spillway", confined)
        assert bound_everywhere(own) == set()
        reconciles_the_sample(own, run_as_applied(own), confined)
        (version,) = own.cluster.api.get(*CRD)["spec"]["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert spec["mode"]["default"] == "Advise"

        config.rollback("spillway", version=1)
        (version,) = own.cluster.api.get(*CRD)["spec"]["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert spec["mode"]["default"] == "Active"

        config.uninstall("spillway")
    # Pools are handed back while the operator's rights are still there. Helm creates by apply.
    done = [(w.verb, w.resource, w.name) for w in writes(own.cluster, namespace=SYSTEM) if w.done]
    hook = done.index(("patch", "jobs", "spillway-operator-release"))
    assert hook < done.index(("delete", "rolebindings", "spillway-operator"))
    assert own.cluster.api.find(*DEPLOYMENT) is None
    assert own.cluster.api.find(CLUSTER_ROLE, "spillway-operator") is None
    # crds.keep: no pool goes with the release.
    assert own.cluster.api.find(*CRD) is not None


def test_the_api_server_takes_what_every_set_of_values_renders(own: Rig) -> None:
    for crd in monitoring_crds():
        own.cluster.install_crd(crd)
    for name in ("elsewhere", "monitoring"):
        own.cluster.create_namespace(name, unique=False)
    texts = [
        text for values in MATRIX.values()
        for name, text in render(values).items() if name != "NOTES.txt"
    ]  # fmt: skip
    # As text: what Helm has written is what Kubernetes' own YAML parser must read.
    said = own.cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-",
        stdin="\n---\n".join(texts),
    )  # fmt: skip
    expected = sum(len(objects(values)) for values in MATRIX.values())
    assert said.count("serverside-applied (server dry run)") == expected


def test_install_yaml_and_kustomize_do_the_same(own: Rig, tmp_path: Path) -> None:
    # An administrator's role for another kind: the control plane adds it to the operator's.
    own.cluster.api.apply(scale_target_role())
    manifest = ROOT / "manifests" / "install.yaml"
    # After Helm: the CRD that it kept changes hands.
    own.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifest))
    operator = run_as_applied(own, **FAST, prometheus_url=own.prometheus.url)
    reconciles_the_sample(own, operator)
    wait_for("the role is filled", lambda: who_rules(own) == {"clusterrole-aggregation-controller"})
    # And kustomize's base has the same objects, whoever comes first.
    said = own.cluster.kubectl("diff", "--server-side", "--force-conflicts", "-k",
                               str(ROOT / "manifests" / "base"), check=False)  # fmt: skip
    changed = {line for line in said.splitlines() if line.startswith(("+", "-"))}
    kept = {line for line in changed if not line.startswith(("+++", "---"))}
    assert {line.strip("+- ").split(":")[0] for line in kept} <= {
        "app.kubernetes.io/managed-by", "generation", "annotations", "labels",
    }, said  # fmt: skip
    # Then as an overlay of one's own: every component that changes no mode, so one namespace.
    overlay(tmp_path, [name for name in COMPONENTS if name != "read-only"])
    # What a component takes away, kubectl does not delete.
    for name in bound_everywhere(own):
        own.cluster.api.delete(CLUSTER_ROLE_BINDING, name)
    own.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(tmp_path))
    assert bound_everywhere(own) == {"spillway-operator-cluster", "spillway-operator-route-reset"}
    assert who_rules(own) == {"clusterrole-aggregation-controller"}
    operator = run_as_applied(own, **FAST, prometheus_url=own.prometheus.url)
    assert "serving" in operator_settings(own)["watch_namespaces"]
    reconciles_the_sample(own, operator)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_builds_alone(own: Rig, tmp_path: Path, name: str) -> None:
    overlay(tmp_path, [])
    base = built(own, tmp_path)
    overlay(tmp_path, [name])
    made = built(own, tmp_path)
    assert made != base
    (container,) = made[DEPLOYMENT[:2]]["spec"]["template"]["spec"]["containers"]
    env = [v for v in container["env"] if v["name"] == "SPILLWAY_READ_ONLY"]
    read_only = "true" if name == "read-only" else "false"
    assert env == [{"name": "SPILLWAY_READ_ONLY", "value": read_only}]


def built(rig: Rig, folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What kustomize makes of a folder, by kind and name."""
    found = yaml.safe_load_all(rig.cluster.kubectl("kustomize", str(folder)))
    return {(d["kind"], d["metadata"]["name"]): d for d in found}


def test_every_sample_is_taken_by_the_api_server(own: Rig) -> None:
    for path in sorted((ROOT / "manifests" / "samples").glob("*.yaml")):
        said = own.cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", str(path))
        kinds = [d["kind"] for d in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
        assert said.count("serverside-applied") == len(kinds), path.name


def as_run_here(text: str, folder: Path) -> str:
    """A command of the documentation with a reader's names and files put in."""
    known = {
        "create namespace serving": "create namespace of-the-docs",
        "-k .": f"-k {folder} --force-conflicts",
        "NAMESPACE": "serving",
        "NAME": "llama-8b",
        "serving/llama-8b": "llama-8b -n serving",
        "-f manifests/install.yaml": "--force-conflicts -f manifests/install.yaml",
        # The rest goes on until somebody stops it.
        " --watch": "",
    }
    for shown, here in known.items():
        text = text.replace(shown, here)
    return text


def test_commands_of_the_docs_run_on_a_real_cluster(own: Rig, tmp_path: Path) -> None:
    overlay(tmp_path, [])
    programs = binaries.ensure(names=("kubectl",))["kubectl"].parent
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(own.cluster.kubeconfig),
    }

    def run(text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
        return done.stdout

    for path in ("install.yaml", "samples/vllm.yaml", "samples/inferencepool.yaml"):
        run(f"kubectl apply --server-side --force-conflicts -f manifests/{path}")
    shown = dict.fromkeys(command.text for command in commands() if command.kind is Kind.KUBECTL)
    assert len(shown) > 10
    for text in shown:
        assert run(as_run_here(text, tmp_path)), text
    # As kubectl's plugin (found, completed, run), and down a pipe; in one process each the other
    # commands cost seconds.
    assert f"{Path(sys.executable).parent}/kubectl-spillway" in run("kubectl plugin list")
    assert run('kubectl __complete spillway ""').splitlines()[0] == "explain"
    assert run("kubectl __complete spillway plan cross").splitlines()[0] == "crossover"
    assert "no status yet" in run("kubectl spillway top -n serving")
    assert "serverside-applied" in run(
        "spillway crd | kubectl apply --server-side --force-conflicts -f -"
    )
    asking = [
        c.text for c in commands()
        if c.kind is Kind.SPILLWAY and {"explain", "top"} & set(c.text.split())
        and not {"--file", "-f", "--watch"} & set(spillway_arguments(c.text))
    ]  # fmt: skip
    assert len(asking) > 3
    for text in dict.fromkeys(asking):
        arguments = spillway_arguments(as_run_here(text, tmp_path))
        result = CliRunner().invoke(app, arguments, env={"KUBECONFIG": environment["KUBECONFIG"]})
        assert result.exit_code == ExitCode.OK, f"{text}: {result.output}"
        assert "llama-8b" in result.output
