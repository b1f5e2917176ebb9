"""Structural schema (apiextensions.k8s.io/v1) of a pydantic model.

JSON Schema says more than a structural schema may: references, titles, ``anyOf`` with null for
what is optional. This module takes that away and keeps descriptions, bounds, defaults and rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = dict[str, Any]

#: What comes first, so that a reader of the YAML sees what a field is before what bounds it.
_ORDER: Final = (
    "type",
    "description",
    "format",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "required",
    "properties",
    "items",
)


class UnstructuralError(ValueError):
    """A model uses something that a structural schema can't say; the message names it."""


def structural_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The model's structural schema.

    Args:
        model: What to describe.
        defaults: Let the API server fill in defaults. An object whose fields all have one defaults
            to ``{}``, into which the server then fills the defaults of its fields.

    Raises:
        UnstructuralError: The model can't be described so.
    """
    # "serialization" gives defaults as users write them ("2s", not 2.0).
    raw = model.model_json_schema(mode="serialization", by_alias=True)
    return _Converter(raw.get("$defs", {}), defaults=defaults).convert(raw, model.__name__)


class _Converter:
    def __init__(self, definitions: dict[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, raw: Schema, where: str) -> Schema:
        source = self._inlined(raw)
        out: Schema = {}
        for key, value in source.items():
            if key in {"title", "$defs", "default", "const"}:
                continue
            if key == "properties":
                out[key] = {name: self.convert(v, f"{where}.{name}") for name, v in value.items()}
            elif key == "items":
                out[key] = self.convert(value, f"{where}[]")
            elif key == "description":
                out[key] = " ".join(value.split())
            elif key in _ORDER:
                out[key] = value
            else:
                msg = f"{where}: a structural schema can't say {key}: {value!r}"
                raise UnstructuralError(msg)
        if self._defaults and source.get("default") is not None:
            # The server evaluates rules on a default before it fills that in, so that an object
            # with rules must default to something complete.
            empty = out.get("type") == "object" and "x-kubernetes-validations" not in out
            out["default"] = {} if empty else _known(source["default"])
        return {key: out[key] for key in _ORDER if key in out}

    def _inlined(self, raw: Schema) -> Schema:
        """`raw` with its reference, or its one alternative that is not null, in its place."""
        raw = dict(raw)
        options = [o for o in raw.pop("anyOf", ()) if o != {"type": "null"}]
        if len(options) > 1:
            msg = f"a structural schema can't say anyOf {options!r}"
            raise UnstructuralError(msg)
        inner = options[0] if options else None
        if "$ref" in raw:
            inner = self._definitions[raw.pop("$ref").removeprefix("#/$defs/")]
        # The field's own description says more than its type's.
        return raw if inner is None else self._inlined(inner) | raw


def _known(default: Any) -> Any:
    """A default without what is unset: to the server, null is a value, and not an accepted one."""
    if isinstance(default, dict):
        return {key: _known(value) for key, value in default.items() if value is not None}
    return default
