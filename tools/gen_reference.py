"""Writes docs/reference from the code, so that the two can't differ.

    python -m tools.gen_reference            # write the pages
    python -m tools.gen_reference --check    # exit 1 and name the pages that are stale

Enumerations are read from their source (a member's description is the string under it, a group's
title the comment above it); the resource is read from its CRD schema, settings from their class and
metrics from their registry.
"""

from __future__ import annotations

import argparse
import ast
import enum
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from tools.reference_cli import cli_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "operator" / "spillway"
REFERENCE: Final = ROOT / "docs" / "reference"
_NOTE: Final = "<!-- Written by tools/gen_reference.py (make reference); do not edit. -->\n"

_CONDITIONS: Final = """\
# Conditions and reasons

Conditions stand in `status.conditions`. Reasons are one vocabulary: the same words are in
conditions, events, `status.lastDecision.reasons`, metrics and logs. They are stable API.
[Troubleshooting](../how-to/troubleshooting.md) says what to do about each.

"""
_EXIT_CODES: Final = """\
# Exit codes

The same for every command; scripts may rely on them.

"""
_RESOURCE: Final = """\
# InferencePool

`{version}`, short name `{short}`. The Gateway API Inference Extension has a kind of the same name
in another group; the full name of this one is `{full}`. Fields marked * are required.
"""
_SETTINGS: Final = """\
# Settings

Environment variables of `spillway run`; its flags win over them. Lists and objects are JSON. A
value that is not accepted ends the operator at once, with exit code 2 and a line that names it.

"""
_METRICS: Final = """\
# Metrics

What `/metrics` answers. Series of a pool vanish with the pool. `spillway_leader` is 1 on the
replica that writes.

"""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an enumeration.

    Attributes:
        name: Its Python name.
        value: Its value, as text.
        description: The string under it; "" where there is none.
        group: The comment above its group; "" before the first.
    """

    name: str
    value: str
    description: str
    group: str


def enum_members(source: str, class_name: str) -> list[Member]:
    """Members of an enumeration in a module's source, in their order.

    Raises:
        LookupError: The module has no such class.
    """
    tree = ast.parse(source)
    body = next(
        (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name), None
    )
    if body is None:
        msg = f"no class {class_name}"
        raise LookupError(msg)
    comments = _own_line_comments(source)
    members: list[Member] = []
    group = ""
    previous_line = body[0].lineno
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        above = [comments[n] for n in range(previous_line, node.lineno) if n in comments]
        group = " ".join(above).rstrip(".") or group
        previous_line = node.lineno
        target = node.targets[0]
        if isinstance(target, ast.Name):
            description = _string(after)
            members.append(Member(target.id, str(node.value.value), description, group))
    return members


def _own_line_comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def _string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def conditions_page() -> str:
    """Condition types and reasons."""
    source = (PACKAGE / "api" / "reasons.py").read_text(encoding="utf-8")
    types = [(_code(m.value), m.description) for m in enum_members(source, "ConditionType")]
    parts = [
        _CONDITIONS,
        "## Conditions\n\n",
        table(("Type", "True means"), types),
    ]
    group = None
    rows: list[tuple[str, ...]] = []
    for member in enum_members(source, "Reason"):
        if member.group != group:
            parts += [table(("Reason", "Meaning"), rows)] if rows else []
            group, rows = member.group, []
            parts.append(f"\n## Reasons: {group[:1].lower()}{group[1:]}\n\n")
        rows.append((_code(member.value), member.description))
    return "".join([*parts, table(("Reason", "Meaning"), rows)])


def exit_codes_page() -> str:
    """Exit codes of the commands."""
    source = (PACKAGE / "cli" / "exit_codes.py").read_text(encoding="utf-8")
    rows = [(_code(m.value), m.description) for m in enum_members(source, "ExitCode")]
    return _EXIT_CODES + table(("Code", "Meaning"), rows)


def crd_page() -> str:
    """Every field of an InferencePool, from the CRD's own schema."""
    from spillway.api.crd import custom_resource_definition

    crd = custom_resource_definition()
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [
        _RESOURCE.format(
            version=f"{crd['spec']['group']}/{version['name']}",
            short=crd["spec"]["names"]["shortNames"][0],
            full=crd["metadata"]["name"],
        )
    ]
    for name in ("spec", "status"):
        parts.append(f"\n## {name}\n\n")
        rows = list(_fields(schema["properties"][name], name))
        parts.append(table(("Field", "Type", "Default", "Description"), rows))
    rules = [(_code(p), text) for p, text in _rules(schema["properties"]["spec"], "spec")]
    if rules:
        parts += ["\n## Rules between fields\n\n", table(("Where", "What is accepted"), rules)]
    return "".join(parts)


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        item = field.get("items", {})
        mark = "*" if name in required else ""
        kind = _kind(field)
        default = field.get("default")
        shown = "" if default is None or isinstance(default, dict | list) else str(default)
        yield _code(here) + mark, kind, _code(shown), field.get("description", "")
        yield from _fields(field, here)
        yield from _fields(item, f"{here}[]")


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(_code(str(value)) for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = [str(bound) for bound in (low, high) if bound is not None]
    return f"{kind}, {' to '.join(bounds)}" if len(bounds) == 2 else kind


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field, f"{path}.{name}")
        yield from _rules(field.get("items", {}), f"{path}.{name}[]")


def settings_page() -> str:
    """Environment variables of the operator."""
    from spillway.controller.settings import Settings

    prefix = str(Settings.model_config["env_prefix"])
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if field.default_factory is not None:
            shown = "the host's name" if name == "identity" else "computed"
        elif isinstance(default, enum.Enum):
            shown = _code(str(default.value))
        else:
            shown = "" if default is None or default in ([], {}) else _code(str(default))
        rows.append(
            (
                _code(f"{prefix}{name}".upper()),
                _type(field.annotation),
                shown,
                field.description or "",
            )
        )
    return _SETTINGS + table(("Variable", "Type", "Default", "Meaning"), rows)


def _type(annotation: Any) -> str:
    options = [option for option in get_args(annotation) if option is not type(None)]
    if get_origin(annotation) is list:
        return "list"
    if get_origin(annotation) is dict:
        return "object"
    if options:
        return _type(options[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return ", ".join(_code(option.value) for option in annotation)
    names = {"str": "text", "float": "number", "int": "integer", "bool": "true or false"}
    name = getattr(annotation, "__name__", "text")
    return names.get(name, {"Path": "file", "SecretStr": "text, never shown"}.get(name, name))


def metrics_page() -> str:
    """Metrics of the operator."""
    from spillway.adapters.pool_gauge import POOL_LABELS
    from spillway.adapters.telemetry import Telemetry

    telemetry = Telemetry()
    labels = {
        getattr(metric, "_name", ""): getattr(metric, "_labelnames", ())
        for metric in vars(telemetry).values()
    } | {gauge.name: (*POOL_LABELS, *gauge.labels) for gauge in telemetry.pool_gauges}
    rows = []
    for family in sorted(telemetry.families(), key=lambda family: family.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = ", ".join(_code(label) for label in labels.get(family.name, ()))
        rows.append((_code(name), family.type, names, family.documentation))
    return _METRICS + table(("Metric", "Type", "Labels", "Meaning"), rows)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page,
    "conditions.md": conditions_page,
    "exit-codes.md": exit_codes_page,
    "inferencepool.md": crd_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
}


def render() -> dict[Path, str]:
    """Every page's path and text."""
    pages = {}
    for name, build in PAGES.items():
        title, rest = build().split("\n", 1)
        pages[REFERENCE / name] = f"{title}\n{_NOTE}{re.sub(r' +$', '', rest, flags=re.MULTILINE)}"
    return pages


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them; 1 when a checked page is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.gen_reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if a page is stale")
    options = parser.parse_args(arguments)
    stale = 0
    for path, text in render().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run make reference\n")
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
