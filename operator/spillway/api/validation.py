"""From an object of the API server (or a file) to a pool, or to what is wrong with it.

The API server has checked a stored object against the CRD, but perhaps an older one, and a file was
checked by nobody. `parse` takes anything and raises `InvalidPoolError` alone. It reads JSON as the
API server does: text is not turned into numbers, null is an absent field, names are camelCase,
unknown fields are ignored. That a targetRef must not change is left to the CRD's transition rule:
only the API server sees the old object beside the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.model import BrokenRulesError
from spillway.api.names import API_VERSION, KIND
from spillway.api.quantities import NotAcceptedError, shorten
from spillway.api.timestamps import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

#: Problems told in the message of one error; the rest are counted.
_TOLD: Final = 8
#: etcd takes 1.5 MB an object, and a value takes more than a dozen bytes.
_MOST_VALUES: Final = 100_000
#: Specs that are remembered, of more pools than one process is made for, and characters of the
#: longest: nobody fills the memory with large ones.
_SPECS_KEPT: Final = 4096
_LONGEST_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that is not as it should be.

    Attributes:
        path: The field as users write it: ``spec.variants[0].price.perAcceleratorHour``; empty for
            the object as a whole.
        value: What it holds; None where it is missing.
        message: What is accepted: "must be at most replicas.max", "is required".
    """

    path: str
    value: Any
    message: str

    def __str__(self) -> str:
        """``spec.replicas.floor must be at most replicas.max, got 5``."""
        text = f"{self.path or KIND} {self.message}"
        return text if self.value is None else f"{text}, got {shorten(self.value)}"


class InvalidPoolError(ValueError):
    """An object is not a valid InferencePool.

    Attributes:
        problems: What is wrong, at least one.
    """

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        told = "; ".join(str(problem) for problem in problems[:_TOLD])
        more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        super().__init__(told + more)
        self.problems = problems


class _TooLargeError(ValueError):
    """An object of more values than the API server could store."""


@dataclass(frozen=True, slots=True)
class InferencePool:
    """A valid pool, as it was read.

    Attributes:
        namespace: ``default`` where a file does not say.
        name: metadata.name.
        uid: "" for an object that was never stored.
        generation: metadata.generation; 0 for an object that was never stored.
        resource_version: "" for an object that was never stored.
        created_at: Seconds since the Unix epoch; 0.0 for an object that was never stored.
        deletion: Somebody asked for its deletion.
        spec: What is asked for, defaults filled in.
        status_raw: Status as stored; empty where there is none.
        annotations: metadata.annotations.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created_at: float
    deletion: bool
    spec: InferencePoolSpec
    status_raw: Mapping[str, Any]
    annotations: Mapping[str, str]

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def parse(obj: Mapping[str, Any]) -> InferencePool:
    """The pool that the object describes.

    Raises:
        InvalidPoolError: It describes none; every problem found is named. Nothing else is raised,
            whatever the object holds.
    """
    plain = _plain_object(obj)
    problems = list(_kind_problems(plain))
    metadata = _Metadata(plain.get("metadata"), problems)
    name = metadata.required_text("name")
    namespace = metadata.text("namespace") or "default"
    uid = metadata.text("uid")
    generation = metadata.count("generation")
    resource_version = metadata.text("resourceVersion")
    created_at = metadata.time("creationTimestamp")
    annotations = metadata.texts("annotations")
    spec = _parse_spec(plain.get("spec"), problems)
    if problems or spec is None:
        raise InvalidPoolError(tuple(problems))
    status = plain.get("status")
    return InferencePool(
        namespace=namespace,
        name=name,
        uid=uid,
        generation=generation,
        resource_version=resource_version,
        created_at=created_at,
        deletion=metadata.has("deletionTimestamp"),
        spec=spec,
        # Status is Spillway's own word: a strange one must not keep a pool from being served.
        status_raw=status if isinstance(status, dict) else {},
        annotations=annotations,
    )


def _plain_object(obj: object) -> dict[str, Any]:
    """The object as plain JSON."""
    try:
        plain = _as_stored(obj, [_MOST_VALUES])
        # Not every Python text is one: a lone surrogate has no UTF-8.
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except _TooLargeError:
        message = f"must hold at most {_MOST_VALUES} values, YAML aliases written out"
        raise InvalidPoolError((FieldProblem("", None, message),)) from None
    except (TypeError, ValueError, RecursionError):
        raise InvalidPoolError((FieldProblem("", None, "must be plain JSON"),)) from None
    if not isinstance(plain, dict):
        raise InvalidPoolError((FieldProblem("", plain, "must be an object"),))
    return plain


def _as_stored(value: object, room: list[int]) -> object:
    """The value as it would be stored: the server prunes nulls, kubectl sends 3.0 as 3.

    ``room`` holds how many more values may come: aliases of YAML make an object of a few lines as
    large as they like.
    """
    room[0] -= 1
    if room[0] < 0:
        raise _TooLargeError
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            msg = "JSON's keys are texts"
            raise TypeError(msg)
        return {key: _as_stored(item, room) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_as_stored(item, room) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _kind_problems(plain: dict[str, Any]) -> Iterator[FieldProblem]:
    # The Gateway API Inference Extension owns the same kind in another group.
    for field, accepted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if plain.get(field, accepted) != accepted:
            yield FieldProblem(field, plain[field], f"must be {accepted}")


class _Metadata:
    """Reads metadata field by field and notes what is wrong with it."""

    def __init__(self, raw: object, problems: list[FieldProblem]) -> None:
        self._problems = problems
        self._given = isinstance(raw, dict)
        self._raw: dict[str, Any] = raw if isinstance(raw, dict) else {}
        if not self._given:
            self._refuse("metadata", raw, "is required" if raw is None else "must be an object")

    def _refuse(self, path: str, value: object, message: str) -> None:
        self._problems.append(FieldProblem(path, value, message))

    def has(self, field: str) -> bool:
        return field in self._raw

    def text(self, field: str) -> str:
        value = self._raw.get(field, "")
        if isinstance(value, str):
            return value
        self._refuse(f"metadata.{field}", value, "must be text")
        return ""

    def required_text(self, field: str) -> str:
        if self._given and self._raw.get(field, "") == "":
            self._refuse(f"metadata.{field}", None, "is required")
        return self.text(field)

    def count(self, field: str) -> int:
        value = self._raw.get(field, 0)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._refuse(f"metadata.{field}", value, "must be an integer")
        return 0

    def time(self, field: str) -> float:
        value = self.text(field)
        try:
            return parse_time(value) if value else 0.0
        except ValueError:
            self._refuse(f"metadata.{field}", value, "must be an RFC 3339 time")
            return 0.0

    def texts(self, field: str) -> dict[str, str]:
        value = self._raw.get(field, {})
        if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
            return value
        self._refuse(f"metadata.{field}", value, "must be an object whose values are text")
        return {}


def _parse_spec(raw: object, problems: list[FieldProblem]) -> InferencePoolSpec | None:
    if raw is None:
        problems.append(FieldProblem("spec", None, "is required"))
        return None
    try:
        text = json.dumps(raw)
        return _spec(text) if len(text) > _LONGEST_KEPT else _known_spec(text)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems.extend(_field_problems(details))
        return None


@lru_cache(maxsize=_SPECS_KEPT)
def _known_spec(text: str) -> InferencePoolSpec:
    """As `_spec`: a pool comes anew with each write of its status, and its spec is the same."""
    return _spec(text)


def _spec(text: str) -> InferencePoolSpec:
    """The spec in a text.

    Raises:
        ValidationError: There is none.
    """
    # Strict JSON, by alias alone: what the API server would take, and no more.
    return InferencePoolSpec.model_validate_json(text, strict=True, by_alias=True, by_name=False)


def _field_problems(details: ErrorDetails) -> Iterator[FieldProblem]:
    """A pydantic error in our words; one error may carry several broken rules."""
    path, value = _path(details["loc"]), details["input"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, BrokenRulesError):
        for rule in cause.rules:
            yield FieldProblem(f"{path}.{rule.field}", _below(value, rule.field), rule.message)
    elif isinstance(cause, NotAcceptedError):
        yield FieldProblem(path, value, f"must be {cause.accepted}")
    elif details["type"] == "missing":
        yield FieldProblem(path, None, "is required")
    else:
        message = details["msg"].replace("Input should", "must", 1)
        message = message.replace("valid dictionary", "valid object")
        yield FieldProblem(path, value, message[:1].lower() + message[1:])


def _path(loc: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc)


def _below(value: object, field: str) -> object:
    """The value at a dotted path, None where the user left it to its default."""
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
