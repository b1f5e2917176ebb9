"""Base of the resource's models: naming, leniency, and rules between fields in two languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold between fields of one object.

    Attributes:
        field: The field to blame, as a camelCase path below the object ("warmPool.size").
        message: What is accepted; follows the field's path in the error.
        cel: The rule in CEL, with functions of Kubernetes 1.30 alone.
        holds: The same rule on the validated model; None for a transition rule (one that compares
            with ``oldSelf``), which only the API server can check.
    """

    field: str
    message: str
    cel: str
    holds: Callable[[Any], bool] | None


class BrokenRulesError(ValueError):
    """An object breaks rules of its model.

    Attributes:
        rules: The broken ones, in their order.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__("; ".join(f"{rule.field} {rule.message}" for rule in rules))
        self.rules = rules


def map_list(key: str, *, least: int = 1, most: int) -> Any:
    """Field of a list whose items are told apart by ``key``, on the server as here.

    Such a list lets transition rules see an item's old value, lets several field managers own items
    of it, and (with its bound) keeps CEL's estimated cost within the API server's limit.
    """
    return Field(
        min_length=least or None,
        max_length=most,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [key],
        },
    )


class Model(BaseModel):
    """Base of the resource: camelCase outside, unknown fields ignored (it grows by addition)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        # Most parts of a status have none, and a thousand statuses are made at each tick.
        if self.rules:
            broken = tuple(r for r in self.rules if r.holds is not None and not r.holds(self))
            if broken:
                raise BrokenRulesError(broken)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The model's schema with its rules as ``x-kubernetes-validations``."""
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message}
                | ({"fieldPath": f".{rule.field}"} if rule.field else {})
                for rule in cls.rules
            ]
        return schema
