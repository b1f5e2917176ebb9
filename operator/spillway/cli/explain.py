"""``spillway explain``: why a pool is where it is, from its status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from spillway.adapters.kube.errors import NotFound
from spillway.adapters.kube.paths import resource_path
from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.names import API_VERSION, KIND, PLURAL
from spillway.api.validation import InvalidPoolError, parse
from spillway.cli.connecting import (
    AsJson,
    Context,
    Kubeconfig,
    Namespace,
    ask,
    namespace_of,
)
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.core.explain import Line
from spillway.core.explain import explain as explained

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster

_STDIN = "-"


def explain(
    pool: Annotated[
        str | None, typer.Argument(help="Name of the InferencePool, or NAMESPACE/NAME.")
    ] = None,
    namespace: Namespace = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="A saved object (kubectl get -o yaml); - is stdin."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Say why a pool has the replicas it has: load, capacity, prices, limits, cost."""
    if (pool is None) is (file is None):
        fail("name a pool, or a file with --file; one of the two", ExitCode.USAGE)
    if file is not None:
        found = _read(file)
    else:
        space, _, name = str(pool).rpartition("/")
        space = space or namespace or namespace_of(kubeconfig, context)
        found = _fetch(space, name, kubeconfig, context)
    try:
        parsed = parse(found)
        raw = found.get("status")
        status = InferencePoolStatus.model_validate(raw) if raw else None
    except InvalidPoolError as error:
        problems = "\n       ".join(str(problem) for problem in error.problems)
        text = f"the pool is not valid, so Spillway leaves it alone\n       {problems}"
        fail(text, ExitCode.INVALID)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        fail(f"status.{where} is not what Spillway writes: {first['msg']}", ExitCode.INVALID)
    lines = explained(parsed.spec, status)
    title = f"{parsed.namespace}/{parsed.name}"
    if as_json:
        _print_json(title, lines, found)
    else:
        _print(title, parsed.spec.model_name, lines)


def _read(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == _STDIN else Path(file).read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except OSError as error:
        fail(f"{file}: {error.strerror}; name a file that can be read", ExitCode.USAGE)
    except (yaml.YAMLError, ValueError) as error:
        fail(f"{file}: not YAML: {' '.join(str(error).split())}", ExitCode.USAGE)
    if not isinstance(found, dict) or found.get("kind") != KIND:
        text = f"must hold one {KIND} of {API_VERSION}, as kubectl get -o yaml prints it"
        fail(f"{file}: {text}", ExitCode.USAGE)
    return found


def _fetch(
    namespace: str, name: str, kubeconfig: Path | None, context: str | None
) -> dict[str, Any]:
    async def get(cluster: Cluster) -> dict[str, Any] | None:
        try:
            return await cluster.get(resource_path(API_VERSION, PLURAL, namespace, name))
        except NotFound:
            return None

    found = ask(get, kubeconfig, context)
    if found is None:
        text = f"there is no {KIND} {namespace}/{name}; kubectl get spool -A lists those there are"
        fail(text, ExitCode.FAILED)
    return found


def _print(title: str, model: str, lines: tuple[Line, ...]) -> None:
    console = Console()
    console.print(f"[bold]{title}[/bold]  [dim]{model}[/dim]")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for line in lines:
        table.add_row(line.topic, line.text, style="yellow" if line.trouble else None)
    console.print(table)


def _print_json(title: str, lines: tuple[Line, ...], found: dict[str, Any]) -> None:
    answer = {
        "pool": title,
        "lines": [{"topic": x.topic, "text": x.text, "trouble": x.trouble} for x in lines],
        "status": found.get("status", {}),
    }
    Console(soft_wrap=True).print_json(json.dumps(answer))
