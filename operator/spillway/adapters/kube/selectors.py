"""Label selectors, matched here because the informers hold the labels already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_SET_TERM: Final = re.compile(r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL_TERM: Final = re.compile(r"^(?P<key>[^!=\s]+)\s*(?P<op>!=|==|=)\s*(?P<value>[^!=\s]*)$")
_KEY_TERM: Final = re.compile(r"^(?P<not>!?)\s*(?P<key>[^!=\s()]+)$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a selector.

    Attributes:
        key: Label key.
        operator: ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``.
        values: For In and NotIn.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it; NotIn is also met by an absent label."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector; all requirements must be met, so an empty one selects everything."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Label keys that it looks at."""
        return frozenset(requirement.key for requirement in self.requirements)

    def __str__(self) -> str:
        """In the form that the API's labelSelector parameter takes."""
        return ",".join(_term(requirement) for requirement in self.requirements)


def _term(requirement: Requirement) -> str:
    match requirement.operator:
        case "In" if len(requirement.values) == 1:
            return f"{requirement.key}={requirement.values[0]}"
        case "In" | "NotIn":
            word = requirement.operator.lower()
            return f"{requirement.key} {word} ({','.join(requirement.values)})"
        case "Exists":
            return requirement.key
        case _:
            return f"!{requirement.key}"


def selector_matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a pod with these labels is selected."""
    return all(requirement.matches(labels) for requirement in selector.requirements)


def from_label_selector(raw: Mapping[str, Any]) -> Selector:
    """From a ``metav1.LabelSelector`` (matchLabels and matchExpressions).

    Raises:
        ValueError: An expression has an unknown operator.
    """
    requirements = [
        Requirement(key, "In", (value,)) for key, value in (raw.get("matchLabels") or {}).items()
    ]
    for expression in raw.get("matchExpressions") or []:
        operator = expression["operator"]
        if operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            msg = (
                f"selector operator {operator!r} on {expression['key']} is unknown; accepted are "
                "In, NotIn, Exists, DoesNotExist"
            )
            raise ValueError(msg)
        values = tuple(expression.get("values") or ())
        requirements.append(Requirement(expression["key"], operator, values))
    return Selector(tuple(requirements))


def parse_selector(text: str) -> Selector:
    """From the string form, as in a scale subresource's ``status.selector``.

    Raises:
        ValueError: A term is none of ``k=v``, ``k==v``, ``k!=v``, ``k in (a,b)``,
            ``k notin (a,b)``, ``k``, ``!k``.
    """
    # Commas inside parentheses belong to a term.
    terms = re.split(r",(?![^(]*\))", text) if text.strip() else []
    return Selector(tuple(_requirement(term.strip()) for term in terms))


def _requirement(term: str) -> Requirement:
    if found := _SET_TERM.match(term):
        values = tuple(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], "In" if found["op"] == "in" else "NotIn", values)
    if found := _EQUAL_TERM.match(term):
        operator = "NotIn" if found["op"] == "!=" else "In"
        return Requirement(found["key"], operator, (found["value"],))
    if found := _KEY_TERM.match(term):
        return Requirement(found["key"], "DoesNotExist" if found["not"] else "Exists")
    msg = (
        f"selector term {term!r} can't be read; accepted are k=v, k!=v, k in (a,b), "
        "k notin (a,b), k and !k"
    )
    raise ValueError(msg)
