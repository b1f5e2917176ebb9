"""Tells people what happened to a pool: events on the InferencePool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from spillway.adapters.kube.events import EventRecorder, ObjectReference
from spillway.api.names import API_VERSION, KIND

if TYPE_CHECKING:
    from spillway.api.reasons import Reason


class Subject(Protocol):
    """Whatever knows which pool it speaks of."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def uid(self) -> str:
        """Its UID."""


class Teller:
    """Emits events; never blocks, never raises."""

    def __init__(self, events: EventRecorder) -> None:
        self._events = events

    def tell(self, pool: Subject, reason: Reason, note: str, *, warning: bool = False) -> None:
        """Emit an event on the pool."""
        subject = ObjectReference(API_VERSION, KIND, pool.namespace, pool.name, pool.uid)
        self._events.emit(subject, reason.value, note, now=time.time(), warning=warning)
