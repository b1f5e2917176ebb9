"""Fields that an InferencePool does not have: the API server drops them, kubectl refuses them."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from spillway.api.crd import custom_resource_definition

if TYPE_CHECKING:
    from collections.abc import Iterator


def unknown_fields(raw: dict[str, Any]) -> list[str]:
    """A sentence for each name that the CRD's schema does not have, with the nearest that it has.

    Args:
        raw: The pool as it was written. Metadata is the API server's own and not looked into.
    """
    return [
        f"{path} is no field of it{_instead(path.rpartition('.')[2], known)}"
        for path, known in _unknown(raw, _schema(), "")
    ]


@cache
def _schema() -> dict[str, Any]:
    (version,) = custom_resource_definition()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _unknown(value: object, schema: dict[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    properties = schema.get("properties")
    if isinstance(value, dict) and properties:
        for name, inner in value.items():
            here = f"{path}.{name}" if path else str(name)
            if name in properties:
                yield from _unknown(inner, properties[name], here)
            else:
                yield here, list(properties)
    elif isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}[{place}]")


def _instead(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
