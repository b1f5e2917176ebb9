"""The edge's scripts, each with its configuration before it."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.edge.settings import EdgeProvider, EdgeSettings


def admission(settings: EdgeSettings, gateway: str) -> str:
    """The filter of the way in."""
    stays = settings.stays
    config = {
        **_operator(settings, gateway),
        "gateways": settings.gateways,
        "paths": dict.fromkeys(settings.paths, True),
        "models": dict.fromkeys(settings.models, True) if settings.models else None,
        "stays": {
            "headers": [{"name": mark.name, "values": list(mark.values)} for mark in stays.headers],
            "keys_file": stays.keys_file,
            "models": dict.fromkeys(stays.models, True),
        },
    }
    return _script(config, "json", "value", "body", "usage", "admission")


def route() -> str:
    """The cluster specifier of the way in."""
    return _script({}, "route")


def overflow(settings: EdgeSettings, gateway: str) -> str:
    """The filter of the way out."""
    config = {
        **_operator(settings, gateway),
        "providers": dict.fromkeys((provider.name for provider in settings.providers), True),
    }
    return _script(config, "json", "value", "usage", "overflow")


def provider(settings: EdgeSettings, provider: EdgeProvider) -> str:
    """The filter before one provider."""
    config = {
        "name": provider.name,
        "authority": provider.address,
        "path_prefix": provider.path_prefix.rstrip("/"),
        "model": provider.model,
        "key_file": provider.key_file,
        "key_header": provider.key_header,
        "key_prefix": provider.key_prefix,
        "private_headers": [mark.name for mark in settings.stays.headers],
    }
    return _script(config, "body", "provider")


def metrics(settings: EdgeSettings) -> str:
    """The filter of the metrics page."""
    pool = settings.pool
    return _script({"namespace": pool.namespace, "pool": pool.name}, "metrics")


def _operator(settings: EdgeSettings, gateway: str) -> dict[str, Any]:
    pool = settings.pool
    return {
        "gateway": gateway,
        "operator": settings.operator.address,
        "path": f"/v1/overflow/{pool.namespace}/{pool.name}",
    }


def _script(config: Mapping[str, Any], *parts: str) -> str:
    return "\n".join([f"local CONFIG = {_literal(config)}", *(_source(part) for part in parts)])


@cache
def _source(part: str) -> str:
    return (resources.files(__package__) / "lua" / f"{part}.lua").read_text(encoding="utf-8")


def _literal(value: Any) -> str:
    """A Lua expression of a JSON-like value."""
    if value is None:
        return "nil"
    if isinstance(value, dict):
        inside = ", ".join(f"[{_literal(name)}] = {_literal(item)}" for name, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"{{ {', '.join(map(_literal, value))} }}" if value else "{}"
    # JSON's escapes of printable ASCII are Lua's; settings admit nothing else.
    return json.dumps(value, ensure_ascii=True)
