"""Whatever is wrong with how the operator is started is one clear message, and no harm.

Exit codes are those of docs/reference/exit-codes.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from rich.console import Console

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.cli.exit_codes import ExitCode
from tests.e2e.rig.operator_process import FAST, variables
from tests.e2e.rig.rig import CRDS, Rig
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


REPOSITORY = CRDS.parent
SAMPLES = REPOSITORY / "manifests" / "samples"
NOWHERE = "http://127.0.0.1:9"
INVALID = """
apiVersion: spillway.dev/v1alpha1
kind: InferencePool
metadata: {name: wrong}
spec:
  modelName: m
  variants: [{name: a, targetRef: {name: a}}]
  replicas: {floor: 3, max: 2}
"""


def spillway(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in an environment that says nothing of Spillway or of a cluster."""
    hidden = ("SPILLWAY_", "KUBE", "COLUMNS")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return subprocess.run(
        [sys.executable, "-m", "spillway", *args],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """It ended with that code and said these words, and nothing like a traceback."""
    said = " ".join(done.stderr.split())
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said
    assert done.returncode == code, said


def settings(**fields: Any) -> dict[str, str]:
    """Environment of an operator, by the settings' names."""
    return variables({**FAST, **fields})


# The command line


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SPILLWAY_LOG_LEVEL": "loud"}, ["SPILLWAY_LOG_LEVEL", "'info'", "'loud'"]),
        ({"SPILLWAY_SLOW_TICK_SECONDS": "-1"}, ["SPILLWAY_SLOW_TICK_SECONDS", "0", "'-1'"]),
        ({"SPILLWAY_SLOW_TICK_SECONDS": "soon"}, ["SPILLWAY_SLOW_TICK_SECONDS", "'soon'"]),
        ({"SPILLWAY_HTTP_PORT": "70000"}, ["SPILLWAY_HTTP_PORT", "65535", "70000"]),
        ({"SPILLWAY_PROMETHEUS_URL": "ftp://x"}, ["SPILLWAY_PROMETHEUS_URL", "http", "ftp://x"]),
        ({"SPILLWAY_WATCH_NAMESPACES": "serving"}, ["SPILLWAY_WATCH_NAMESPACES", "JSON"]),
        (
            {"SPILLWAY_LEASE_RENEW_SECONDS": "20"},
            ["SPILLWAY_LEASE_RENEW_SECONDS < SPILLWAY_LEASE_DURATION_SECONDS", "20.0 / 15.0"],
        ),
        (
            {"SPILLWAY_OVERFLOW_LEASE_SECONDS": "20"},
            ["SPILLWAY_OVERFLOW_LEASE_SECONDS", "failover", "got 20.0"],
        ),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_accepted(
    environment: dict[str, str], words: list[str]
) -> None:
    assert_refused(spillway("run", **environment), ExitCode.USAGE, *words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "--nope"], ["--nope"]),
        (["run", "--http-port", "many"], ["--http-port", "integer"]),
        (["run", "--kubeconfig", "/no/such/file"], ["/no/such/file"]),
        (["nope"], ["'nope'"]),
        (["validate", "/no/such/file"], ["/no/such/file", "No such file"]),
    ],
    ids=" ".join,
)
def test_a_wrong_argument_is_named(args: list[str], words: list[str]) -> None:
    assert_refused(spillway(*args), ExitCode.USAGE, *words)


def test_without_any_cluster_it_says_how_to_name_one(tmp_path: Path) -> None:
    done = spillway("run", HOME=str(tmp_path))
    assert_refused(done, ExitCode.USAGE, "no cluster is configured", "--kubeconfig", "KUBECONFIG")
    done = spillway("run", HOME=str(tmp_path), KUBECONFIG="/no/such/file")
    assert_refused(done, ExitCode.USAGE, "KUBECONFIG", "/no/such/file")


def test_validate_tells_good_from_bad_and_from_what_is_no_yaml(tmp_path: Path) -> None:
    good = SAMPLES / "inferencepool.yaml"
    bad, none, empty = tmp_path / "bad.yaml", tmp_path / "none.yaml", tmp_path / "empty.yaml"
    bad.write_text(INVALID, encoding="utf-8")
    none.write_text("spec: [", encoding="utf-8")
    empty.write_text("kind: ConfigMap", encoding="utf-8")
    assert spillway("validate", str(good)).returncode == ExitCode.OK

    done = spillway("validate", str(bad))
    assert done.returncode == ExitCode.INVALID
    assert "spec.replicas.floor must be at most replicas.max, got 3" in done.stdout

    done = spillway("validate", "--json", *map(str, (good, bad, none)))
    assert done.returncode == ExitCode.INVALID
    results = {Path(r["file"]).name: r for r in json.loads(done.stdout)["pools"]}
    assert results["inferencepool.yaml"]["problems"] == []
    assert results["bad.yaml"]["name"] == "wrong"
    assert len(results["bad.yaml"]["problems"]) == 1
    assert "not YAML" in results["none.yaml"]["problems"][0]
    assert "line 1" in results["none.yaml"]["problems"][0]

    assert_refused(spillway("validate", str(empty)), ExitCode.USAGE, "no InferencePool", "empty")


def test_the_printed_crd_is_the_one_that_is_checked_in() -> None:
    done = spillway("crd")
    assert done.returncode == ExitCode.OK
    checked_in = (CRDS / "spillway.dev_inferencepools.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(done.stdout) == yaml.safe_load(checked_in)


# Starting against something that is not there


def test_a_context_that_there_is_not_is_named(rig: Rig) -> None:
    done = spillway(
        "run", "--kubeconfig", str(rig.cluster.kubeconfig), "--context", "elsewhere",
        **settings(http_port=0),
    )  # fmt: skip
    assert_refused(done, ExitCode.USAGE, "elsewhere", str(rig.cluster.kubeconfig), "kubectl config")


def test_an_api_server_that_does_not_answer_is_waited_for_and_then_named(
    rig: Rig, tmp_path: Path
) -> None:
    config = yaml.safe_load(rig.cluster.kubeconfig.read_text(encoding="utf-8"))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    elsewhere = tmp_path / "kubeconfig"
    elsewhere.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = spillway(
        "run", "--kubeconfig", str(elsewhere),
        **settings(http_port=0, connect_timeout_seconds=1),
    )  # fmt: skip
    assert "waiting for the API server" in done.stdout + done.stderr
    assert_refused(done, ExitCode.UNREACHABLE, "https://127.0.0.1:9 can't be reached", "kubectl")


def test_a_port_that_is_taken_is_named(rig: Rig) -> None:
    port = rig.emulator.url.rpartition(":")[2]
    done = spillway(
        "run", "--kubeconfig", str(rig.cluster.kubeconfig), "--http-port", port,
        **settings(http_host="127.0.0.1"),
    )  # fmt: skip
    assert_refused(done, ExitCode.USAGE, f"127.0.0.1:{port}", "address already in use")


def test_without_prometheus_it_runs_holds_the_floor_and_says_what_is_missing(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    operators.start_operator(prometheus_url=NOWHERE, scrape_url_template=f"{NOWHERE}/{{pod}}")
    pool = scenario(replicas=1)
    pool.start()
    assert pool.scale() == 2
    said = pool.wait_condition("MetricsAvailable", "False", Reason.METRICS_MISSING)
    assert "127.0.0.1" in said["message"]
    # Data that is missing never scales down.
    operators.cluster.kubectl(
        "-n", pool.namespace, "scale", f"deployment/{pool.name}", "--replicas=4"
    )
    pool.wait_roles(serving=4)


# Permissions


def grant(rig: Rig, account: str, role: str) -> None:
    """Bind a ClusterRole to an operator's account, besides what it has."""
    namespace = rig.system_namespace
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{namespace}-{account}-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
    rig.cluster.api.apply(binding)


@pytest.mark.parametrize("role", ["view", "no-such-role"])
def test_without_permission_it_says_which_verb_on_what_and_recovers_when_it_is_granted(
    operators: Rig, scenario: Callable[..., Scenario], role: str
) -> None:
    name = f"poor-{role}"
    operator = operators.start_operator(name, cluster_role=role, wait=False)
    pool = scenario()
    pool.deploy()
    pool.apply()

    def complaints() -> list[str]:
        return [str(line.get("error")) for line in operator.log_lines(level="warning")]

    def asked_for(verb: str, resource: str) -> list[str]:
        wanted = f"may not {verb} {resource}"
        return [text for text in complaints() if wanted in text and "ClusterRole" in text]

    pool.wait("pools may not be listed", lambda: asked_for("list", "inferencepools"))
    pool.wait("the Lease may not be read", lambda: asked_for("get", "leases"))
    if role != "view":
        pool.wait("pods may not be listed", lambda: asked_for("list", "pods"))
        assert requests.get(f"{operator.url}/readyz", timeout=5).status_code == 503
    assert requests.get(f"{operator.url}/healthz", timeout=5).status_code == 200
    # It tells each once, not at every try.
    lost = operator.log_lines(event="informer lost its source")
    assert len({line["path"] for line in lost}) == len(lost)

    grant(operators, f"spillway-{name}", "cluster-admin")
    pool.wait_ready(timeout=60)
    assert operator.alive


# A cluster without the CRD


@pytest.fixture
def rig_without_crd(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig of its own, since the others need the CRD."""
    if request.config.getoption("--cluster") != "local":
        pytest.skip("needs a cluster of its own")
    with Rig("local", nodes=1, console=Console(quiet=True)) as own:
        own.cluster.api.delete("CustomResourceDefinition", "inferencepools.spillway.dev")
        yield own


def test_an_operator_that_comes_before_its_crd_waits_for_it(rig_without_crd: Rig) -> None:
    rig = rig_without_crd
    operator = rig.start_operator()
    pool = Scenario(rig, rig.cluster.create_namespace())
    pool.deploy()
    pool.wait(
        "it says what it waits for",
        lambda: [
            line
            for line in operator.log_lines(event="resource is absent; waiting for it")
            if "inferencepools" in line["path"]
        ],
    )
    assert requests.get(f"{operator.url}/readyz", timeout=5).status_code == 200
    rig.apply_crds()
    pool.apply()
    pool.wait_ready()

    # And when it goes, what its pools had marked is given back.
    pool.rig.cluster.api.patch(
        "InferencePool", pool.name, pool.namespace, {"spec": {"warmPool": {"size": 1}}}
    )
    pool.wait_roles(serving=2, warm=1)
    rig.cluster.api.delete("CustomResourceDefinition", "inferencepools.spillway.dev")
    pool.wait("the warm pod serves", lambda: len(pool.pods(Role.SERVING)), lambda n: n == 3)
    assert operator.alive
