"""``spillway reset-routes`` and ``spillway release``: give back without an operator."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from spillway.adapters.kube.errors import ApiError, ConnectError, Forbidden, NotConfigured
from spillway.cli.connecting import AsJson, Context, Kubeconfig  # noqa: TC001 - typer reads the annotations
from spillway.cli.errors import describe, describe_unreadable, fail
from spillway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from spillway.adapters.kube.client import Cluster
    from spillway.controller.giveback import GivenBack
    from spillway.controller.settings import Settings


def reset_routes(
    kubeconfig: Kubeconfig = None, context: Context = None, as_json: AsJson = False
) -> None:
    """Bring back the weights of HTTPRoutes whose pool's overflow value has expired.

    For a CronJob of its own: weights don't expire by themselves when no operator is left. It reads
    SPILLWAY_WATCH_NAMESPACES; routes of pools whose value still holds are left alone.
    """
    # Here and below, not above: help needs no client of Kubernetes.
    from spillway.controller.giveback import GiveBack

    settings = _settings(kubeconfig, context)

    async def run() -> GivenBack:
        """Connect, and reset."""
        async with await _connect(settings) as cluster:
            return await GiveBack(cluster, settings.watch_namespaces).reset_routes(time.time())

    _tell(_ran(run()), as_json=as_json)


def release(
    kubeconfig: Kubeconfig = None, context: Context = None, as_json: AsJson = False
) -> None:
    """Hand every pool back before the operator is uninstalled.

    Takes the operators' Lease, so that none works against it, ends overflow, gives route weights
    back as they were, and brings every pod back to role serving without deletion costs. Replicas
    stay where they are. Operators that are still there a minute later go on.
    """
    from spillway.controller.giveback import GiveBack, leave_lease, take_lease

    settings = _settings(kubeconfig, context)

    async def run() -> GivenBack:
        """Connect, take the Lease, and give back."""
        async with await _connect(settings) as cluster:
            where = settings.namespace, settings.lease_name
            taken = await take_lease(cluster, *where)
            complete = False
            try:
                if taken:
                    # By then a leader that has not noticed has lost the Lease by its own clock.
                    await asyncio.sleep(settings.lease_renew_seconds)
                done = await GiveBack(cluster, settings.watch_namespaces).release()
                complete = not done.failures
            finally:
                if taken:
                    await leave_lease(cluster, *where, complete=complete)
            return done

    _tell(_ran(run()), as_json=as_json)


def _settings(kubeconfig: Path | None, context: str | None) -> Settings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from spillway.controller.settings import PREFIX, Settings

    flags: dict[str, Any] = {"kubeconfig": kubeconfig, "context": context}
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        fail(f"settings are not valid\n       {describe(error, PREFIX)}", ExitCode.USAGE)
    except SettingsError as error:
        text = describe_unreadable(error, PREFIX)
        fail(f"settings are not valid\n       {text}", ExitCode.USAGE)


async def _connect(settings: Settings) -> Cluster:
    from spillway.adapters import logs
    from spillway.adapters.kube.client import Cluster

    logs.to_stderr()
    path = None if settings.kubeconfig is None else str(settings.kubeconfig)
    return await Cluster.connect(path, settings.context)


def _ran(work: Coroutine[Any, Any, GivenBack]) -> GivenBack:
    try:
        return asyncio.run(work)
    except NotConfigured as error:
        fail(str(error), ExitCode.USAGE)
    except Forbidden as error:
        fail(str(error), ExitCode.FORBIDDEN)
    except (ConnectError, ApiError) as error:
        fail(str(error), ExitCode.UNREACHABLE)


def _tell(done: GivenBack, *, as_json: bool) -> None:
    if as_json:
        json.dump(asdict(done), sys.stdout)
        sys.stdout.write("\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        for what, names in (
            ("overflow ended", done.pools),
            ("weights given back", done.routes),
            ("left alone, its value holds", done.kept),
            ("serves again", done.pods),
        ):
            for name in names:
                console.print(f"{name}: {what}", markup=False)
        if not any((done.pools, done.routes, done.pods)):
            console.print("nothing to give back")
    if done.failures:
        failures = "\n       ".join(done.failures)
        fail(f"not everything was given back; run it again\n       {failures}", ExitCode.FAILED)
