"""How commands reach a cluster: the same flags, the same errors, the same exit codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import typer

from spillway.adapters.kube.errors import ApiError, ConnectError, Forbidden, NotConfigured
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spillway.adapters.kube.client import Cluster

Kubeconfig: TypeAlias = Annotated[
    Path | None, typer.Option(help="Kubeconfig file; unset: in-cluster, then KUBECONFIG.")
]
Context: TypeAlias = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
Namespace: TypeAlias = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace; unset: the context's, as kubectl has it."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_DEFAULT: Final = "default"
_OWN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Answer = TypeVar("Answer")


def ask(
    work: Callable[[Cluster], Awaitable[Answer]], kubeconfig: Path | None, context: str | None
) -> Answer:
    """Connect, do the work, and close; what goes wrong ends the command with its code."""
    # Here, not above: help and commands that read files need no client.
    from spillway.adapters import logs
    from spillway.adapters.kube.client import Cluster

    logs.to_stderr()

    async def run() -> Answer:
        """The work, within a connection."""
        path = None if kubeconfig is None else str(kubeconfig)
        async with await Cluster.connect(path, context) as cluster:
            return await work(cluster)

    try:
        return asyncio.run(run())
    except NotConfigured as error:
        fail(str(error), ExitCode.USAGE)
    except Forbidden as error:
        fail(str(error), ExitCode.FORBIDDEN)
    except (ConnectError, ApiError) as error:
        fail(str(error), ExitCode.UNREACHABLE)


def namespace_of(kubeconfig: Path | None, context: str | None) -> str:
    """The namespace that kubectl would take without -n."""
    from kubernetes.aio import config as kube_config

    from spillway.adapters.kube import credentials

    try:
        path = credentials.find_kubeconfig(None if kubeconfig is None else str(kubeconfig))
    except NotConfigured as error:
        fail(str(error), ExitCode.USAGE)
    try:
        if path is None:
            return _OWN.read_text(encoding="utf-8").strip() or _DEFAULT
        contexts, current = kube_config.list_kube_config_contexts(config_file=path)
        chosen: dict[str, Any] = next(
            (c for c in contexts if c["name"] == context), current if context is None else {}
        )
        return str((chosen.get("context") or {}).get("namespace") or _DEFAULT)
    except Exception:  # noqa: BLE001 - the loaders raise what they stumble on; connecting says it
        return _DEFAULT
