"""A control plane of its own on this machine: real programs that kwokctl starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e.rig.binaries import KUBERNETES_VERSION
from tests.e2e.rig.cluster_base import BaseCluster
from tests.e2e.rig.processes import RigError, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.rig.processes import Custody

HERE = Path(__file__).resolve().parent
_NAME = "rig"
#: Ports drawn by two rigs that start at once may meet; then the start is tried again with others.
_START_ATTEMPTS = 3
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class LocalComponent:
    """A process of the control plane that kwokctl started.

    Attributes:
        name: Such as ``kube-apiserver``.
        command: Program and arguments, to start it again.
        folder: kwokctl's folder of the cluster, with logs and process ids.
        custody: Whose process it is.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    custody: Custody

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pids" / f"{self.name}.pid"

    @property
    def pid(self) -> int:
        """Its process id, or that of its last run."""
        return int(self._pid_file.read_text(encoding="ascii"))

    @property
    def alive(self) -> bool:
        """Whether it runs. A zombie that nobody has collected yet does not.

        The first thread of a killed process can be a zombie while its others still go: until the
        last of them is gone the process's sockets are open, and its port is taken.
        """
        process = Path(f"/proc/{self.pid}")
        try:
            status = (process / "stat").read_text(encoding="ascii")
            threads = len(list((process / "task").iterdir()))
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] != "Z" or threads > 1

    def start(self) -> None:
        """Start it again, on the data that it had."""
        if self.alive:
            msg = f"{self.name} runs already (pid {self.pid})"
            raise RigError(msg)
        log = self.folder / "logs" / f"{self.name}.log"
        process = self.custody.popen(self.command, log=log, cwd=self.folder)
        self._pid_file.write_text(str(process.pid), encoding="ascii")

    def stop(self, timeout: float = 20.0) -> None:
        """End it in order (SIGTERM); kill it when it takes longer than ``timeout`` seconds."""
        self.resume()
        self._signal(signal.SIGTERM)
        if not self._gone_within(timeout):
            self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if not self._gone_within(10):
            msg = f"{self.name} (pid {self.pid}) outlived SIGKILL"
            raise RigError(msg)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            self.custody.reap()
            time.sleep(0.02)
        return not self.alive


class LocalCluster(BaseCluster):
    """etcd, API server, controller manager, scheduler and kwok, listening on 127.0.0.1 alone."""

    owns_control_plane = True

    def __init__(self, custody: Custody, programs: Mapping[str, Path]) -> None:
        super().__init__(custody, programs)
        self._workdir = custody.directory / "kwok"
        self._folder = self._workdir / "clusters" / _NAME

    def start(self) -> None:
        """Create the cluster; takes a few seconds.

        Raises:
            RigError: kwokctl failed; with its last words.
        """
        for attempt in range(_START_ATTEMPTS):
            try:
                self._create()
            except RigError:
                self._kwokctl("delete", "cluster", check=False)
                if attempt + 1 == _START_ATTEMPTS:
                    raise
            else:
                self._connect()
                return

    def _create(self) -> None:
        config = self._custody.directory / "kwokctl.yaml"
        config.write_text(
            yaml.safe_dump(_kwokctl_configuration())
            + "---\n"
            + (HERE / "stages.yaml").read_text("utf-8"),
            encoding="utf-8",
        )
        binaries = {
            "etcd": "etcd",
            "kube-apiserver": "kube-apiserver",
            "kube-controller-manager": "kube-controller-manager",
            "kube-scheduler": "kube-scheduler",
            "kwok-controller": "kwok",
        }
        self._kwokctl(
            "--config", str(config), "create", "cluster", "--runtime", "binary",
            *(f"--{flag}-binary={self._programs[program]}" for flag, program in binaries.items()),
            "--kube-audit-policy", str(HERE / "audit-policy.yaml"),
            "--kubeconfig", str(self.kubeconfig),
            "--wait", "60s",
        )  # fmt: skip

    def _kwokctl(self, *args: str, check: bool = True) -> None:
        path = f"{self._programs['kubectl'].parent}{os.pathsep}{os.environ.get('PATH', '')}"
        variables = {
            "KWOK_KUBE_VERSION": KUBERNETES_VERSION,
            "KWOK_WORKDIR": str(self._workdir),
            "PATH": path,
        }
        log = self._custody.directory / "kwokctl.log"
        # A file, not a pipe: the daemons that kwokctl leaves behind would hold a pipe open.
        with log.open("ab") as output:
            done = subprocess.run(
                [str(self._programs["kwokctl"]), "--name", _NAME, *args],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._custody.environment(variables),
                check=False,
            )
        if check and done.returncode:
            said = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
            msg = f"kwokctl {' '.join(args)} failed:\n{said}"
            raise RigError(msg)

    def component(self, name: str) -> LocalComponent:
        """One of etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok-controller."""
        config = yaml.safe_load((self._folder / "kwok.yaml").read_text("utf-8").split("\n---")[0])
        found = {c["name"]: (c["binary"], *c["args"]) for c in config["components"]}
        if name not in found:
            msg = f"no component {name!r}; there are {', '.join(found)}"
            raise RigError(msg)
        return LocalComponent(name, found[name], self._folder, self._custody)

    def audit_events(self, mentioning: str = "") -> list[dict[str, Any]]:
        """Every write so far and the operators' reads, in the order of the API server's log."""
        text = (self._folder / "logs" / "audit.log").read_text(encoding="utf-8")
        # The last line may be half written at this moment.
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in lines if mentioning in line]


def _kwokctl_configuration() -> dict[str, Any]:
    etcd, peer, api, manager, scheduler, kwok = free_ports(6)
    # Without leader election a restarted controller works at once, not when its old lease ends; and
    # the default of 20 calls a second would make a hundred pods take many seconds to appear.
    extra = {"leader-elect": "false", "kube-api-qps": "200", "kube-api-burst": "400"}
    arguments = [{"key": key, "value": value} for key, value in extra.items()]
    return {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokctlConfiguration",
        "metadata": {"name": _NAME},
        "options": {
            "bindAddress": "127.0.0.1",
            "etcdPort": etcd,
            "etcdPeerPort": peer,
            "kubeApiserverPort": api,
            "kubeControllerManagerPort": manager,
            "kubeSchedulerPort": scheduler,
            "kwokControllerPort": kwok,
        },
        "componentsPatches": [
            # The default is a /24, and two hundred pools with a Service each fill it.
            {
                "name": "kube-apiserver",
                "extraArgs": [{"key": "service-cluster-ip-range", "value": "10.96.0.0/16"}],
            },
            *({"name": name, "extraArgs": arguments} for name in _CONTROLLERS),
        ],
    }
