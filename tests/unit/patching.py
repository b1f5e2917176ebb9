"""A JSON patch (RFC 6902) done to a document, as far as Spillway writes any."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from spillway.adapters.kube.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def patched(document: Any, patch: Iterable[Mapping[str, Any]]) -> Any:
    """A copy of a document with the test, add and remove operations of a patch done to it.

    Raises:
        Conflict: A test failed.
    """
    document = copy.deepcopy(document)
    for operation in patch:
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        )
        place = document
        for part in parents:
            place = place[int(part) if isinstance(place, list) else part]
        key: Any = int(last) if isinstance(place, list) else last
        if operation["op"] == "test":
            there = place.get(key) if isinstance(place, dict) else place[key]
            if there != operation["value"]:
                raise Conflict(422, "TestFailed", f"{operation['path']} is {there!r}")
        elif operation["op"] == "add":
            place[key] = operation["value"]
        else:
            assert operation["op"] == "remove", operation
            del place[key]
    return document
