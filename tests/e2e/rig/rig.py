"""Everything the operator needs to run for real, in one object."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from rich.console import Console

from tests.e2e.rig import binaries
from tests.e2e.rig.cluster import make_cluster, programs_for
from tests.e2e.rig.emulator_process import Emulator
from tests.e2e.rig.fleet.process import FleetExporter
from tests.e2e.rig.operator_process import FAST, OperatorProcess
from tests.e2e.rig.processes import Custody, ManagedProcess, RigError
from tests.e2e.rig.prometheus import Prometheus
from tests.e2e.rig.workloads import scale_target_crd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tests.e2e.rig.cluster import Cluster

CRDS = Path(__file__).resolve().parents[3] / "crds"


class Rig:
    """A cluster with GPU nodes, the emulator, Prometheus, and as many operators as one starts.

    Use it as a context manager, or call ``start`` and ``stop``. However the process ends, what the
    rig started ends with it.

    Args:
        cluster: Where it runs: local, kind or current.
        nodes: GPU nodes with eight GPUs each to begin with.
        scrape_interval_seconds: Prometheus'.
        console: Where progress is shown.

    Attributes:
        seconds: How long each part took to start, by name.
        system_namespace: Where the operators live: their accounts, Lease and ledger.
    """

    cluster: Cluster
    emulator: Emulator
    prometheus: Prometheus
    system_namespace: str

    def __init__(
        self,
        cluster: str = "local",
        *,
        nodes: int = 2,
        scrape_interval_seconds: float = 1.0,
        console: Console | None = None,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.operators: dict[str, OperatorProcess] = {}
        self._cluster_name = cluster
        self._nodes = nodes
        self._scrape_interval_seconds = scrape_interval_seconds
        self._console = console or Console(stderr=True)
        self._custody: Custody | None = None

    @property
    def directory(self) -> Path:
        """Holds the logs of everything, until the rig stops."""
        return self._owner.directory

    @property
    def _owner(self) -> Custody:
        if self._custody is None:
            msg = "the rig is not started"
            raise RigError(msg)
        return self._custody

    def start(self) -> Self:
        """Start everything but an operator; after a failure nothing is left."""
        programs = binaries.ensure(self._console, names=programs_for(self._cluster_name))
        self._custody = Custody()
        try:
            self.cluster = make_cluster(self._cluster_name, self._custody, programs)
            self._timed("cluster", self.cluster.start)
            self._timed("nodes", self._furnish)
            self._start_sources(programs["prometheus"])
        except BaseException:
            self._custody.close()
            raise
        return self

    def _start_sources(self, program: Path) -> None:
        """Start what serves metrics, and the Prometheus (its ``program``) that reads them."""
        self.emulator = Emulator(self._owner, self.cluster.kubeconfig)
        self._timed("emulator", self.emulator.start)
        self.prometheus = Prometheus(
            self._owner,
            program,
            self.emulator.url,
            scrape_interval_seconds=self._scrape_interval_seconds,
        )
        self._timed("prometheus", self.prometheus.start)

    @property
    def _scrape_url_template(self) -> str:
        """Where an operator finds each pod's page."""
        return self.emulator.scrape_url_template

    def _tell_operators(self, urls: Sequence[str]) -> None:
        """Say who must know where the operators are."""
        if self.emulator.alive:
            self.emulator.set_operators(urls)
        self.prometheus.set_operators(urls)

    def stop(self) -> None:
        """Stop everything; returns when no process is left. May be called again."""
        if self._custody is None:
            return
        try:
            self.stop_operators()
            self.cluster.stop()
        finally:
            self._custody.close()
            self._custody = None

    def start_operator(
        self,
        name: str = "a",
        *,
        args: Sequence[str] = (),
        cluster_role: str | None = None,
        wait: bool = True,
        api_url: str | None = None,
        altered: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> OperatorProcess:
        """Start a replica of the operator, as a ServiceAccount of its own.

        Args:
            name: Its identity in the Lease; its account is ``spillway-NAME``.
            args: More arguments of ``spillway run``.
            cluster_role: What it may do; None: what the chart grants, and nothing else.
            wait: Return when it is ready; else at once.
            api_url: Where it finds the API server; None: directly.
            altered: Variables of `altered_operator`, to run that in its place.
            settings: Fields of the operator's settings that differ from the rig's (FAST).

        Raises:
            RigError: One of this name runs already; nobody would ever stop it.
        """
        running = self.operators.get(name)
        if running is not None and running.alive:
            msg = f"operator {name} runs already"
            raise RigError(msg)
        every = {
            **FAST,
            "prometheus_url": self.prometheus.url,
            "scrape_url_template": self._scrape_url_template,
            "namespace": self.system_namespace,
            **settings,
        }
        account = f"spillway-{name}"
        if cluster_role is None:
            self.cluster.grant_as_shipped(account, every["namespace"])
        kubeconfig = self.cluster.kubeconfig_as(
            account, every["namespace"], cluster_role=cluster_role
        )
        if api_url is not None:
            kubeconfig = _through(api_url, kubeconfig)
        operator = OperatorProcess(self._owner, name, kubeconfig, every, args, altered)
        if not wait:
            operator.ready_url = None
        self.operators[name] = operator
        self._tell_operators([each.url for each in self.operators.values()])
        return operator.start()

    @property
    def custody(self) -> Custody:
        """Owns what the rig started; what a test starts with it ends with the rig at the latest."""
        return self._owner

    def start_fleet(self, pods: int) -> FleetExporter:
        """Start what plays all pods with the label ``app``, beside the emulator and unlike it.

        An operator that is to see it takes its ``scrape_url_template``. Stop it after use.

        Args:
            pods: Of a pool, for the gateways' counters.
        """
        return FleetExporter(self._owner, self.cluster.kubeconfig, pods).start()

    def manage(
        self,
        name: str,
        command: Sequence[str],
        *,
        ready_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ManagedProcess:
        """A program of a test's own that ends with the rig at the latest; it is not started."""
        return ManagedProcess(
            self._owner, name, command, ready_url=ready_url, environment=environment
        )

    def stop_operators(self) -> None:
        """Stop every operator (SIGTERM)."""
        for operator in self.operators.values():
            operator.stop()
        self.operators.clear()
        self._tell_operators([])

    def apply_crds(self) -> None:
        """Install the product's CRDs and the rig's ScaleTarget."""
        files = sorted(CRDS.glob("*.y*ml"))
        crds = [
            document
            for file in files
            for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
            if document and document["kind"] == "CustomResourceDefinition"
        ]
        crds.append(scale_target_crd())
        for crd in crds:
            self.cluster.install_crd(crd)

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs of everything, as they are now, into a folder."""
        for log in [*self.directory.glob("*.log"), *self.directory.glob("kwok/clusters/*/logs/*")]:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, folder / log.name)

    def _furnish(self) -> None:
        self.apply_crds()
        # On a cluster of our own by its usual name, which the audit policy knows.
        self.system_namespace = self.cluster.create_namespace(
            "spillway-system", unique=not self.cluster.owns_control_plane
        )
        for number in range(1, self._nodes + 1):
            self.cluster.add_node(f"gpu-{number}")

    def _timed(self, name: str, start: Any) -> None:
        began = time.monotonic()
        with self._console.status(f"starting {name}"):
            start()
        self.seconds[name] = time.monotonic() - began
        self._console.print(f"started {name} in {self.seconds[name]:.1f} s", highlight=False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _through(url: str, kubeconfig: Path) -> Path:
    """The same kubeconfig with another way to the API server, such as a proxy's plain HTTP."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["clusters"][0]["cluster"] = {"server": url}
    target = kubeconfig.with_name(f"{kubeconfig.name}-through")
    target.write_text(yaml.safe_dump(config), encoding="utf-8")
    target.chmod(0o600)
    return target
