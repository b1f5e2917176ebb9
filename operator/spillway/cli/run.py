"""``spillway run``: the operator."""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from spillway.cli.errors import describe, describe_unreadable, fail
from spillway.cli.exit_codes import ExitCode


def run(
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig file; unset: in-cluster, then KUBECONFIG.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Prometheus with vLLM's and DCGM's series.")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of probes, metrics, overflow.")
    ] = None,
    read_only: Annotated[
        bool | None, typer.Option("--read-only", help="Report, but change nothing but status.")
    ] = None,
) -> None:
    """Run the operator until SIGTERM. Every other setting is an environment variable SPILLWAY_*."""
    # Here, not above: help needs neither Kopf nor a client of Kubernetes.
    import structlog
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from spillway.adapters import logs
    from spillway.adapters.kube.errors import ConnectError, NotConfigured
    from spillway.controller.http import ListenError
    from spillway.controller.operator import serve
    from spillway.controller.settings import PREFIX, Settings

    flags: dict[str, Any] = {
        "kubeconfig": kubeconfig,
        "context": context,
        "prometheus_url": prometheus_url,
        "http_port": http_port,
        "read_only": read_only,
    }
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        fail(f"settings are not valid\n       {describe(error, PREFIX)}", ExitCode.USAGE)
    except SettingsError as error:
        text = describe_unreadable(error, PREFIX)
        fail(f"settings are not valid\n       {text}", ExitCode.USAGE)
    if settings.kubeconfig and not settings.kubeconfig.is_file():
        fail(f"SPILLWAY_KUBECONFIG: no file at {settings.kubeconfig}", ExitCode.USAGE)
    logs.configure(settings.log_level)
    try:
        asyncio.run(serve(settings))
    except NotConfigured as error:
        fail(str(error), ExitCode.USAGE)
    except ConnectError as error:
        fail(str(error), ExitCode.UNREACHABLE)
    except ListenError as error:
        fail(str(error), ExitCode.USAGE)
    except Exception:
        log = structlog.get_logger(__name__)
        log.exception("the operator ended by an error that nobody foresaw; please report it")
        raise typer.Exit(int(ExitCode.FAILED)) from None
