"""Keeps the pools' overflow annotations in step with the values that are published over HTTP.

The annotation is what standbys answer from and what gateways without HTTP read. It is written
behind the fast loop, one write of a pool at a time, and only where it says something new.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError, Conflict
from spillway.api.inferencepool import Mode
from spillway.core.overflow import needs_rewrite, quantise, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.adapters.kube.status import PoolWriter
    from spillway.adapters.telemetry import Telemetry
    from spillway.api.validation import InferencePool
    from spillway.controller.runtime import Key, PoolRuntime
    from spillway.core.overflow import OverflowValue

log = structlog.get_logger(__name__)

#: Annotations on their way at once: enough to write ten a second to an API server that takes a
#: second and a half.
_AT_ONCE: Final = 16
#: A write that failed is not tried again at each fast tick; a conflict is, once the watch shows
#: what has changed.
_RETRY_SECONDS: Final = 5.0


class Annotator:
    """Writes overflow annotations.

    Args:
        writer: Writes them.
        telemetry: Counts writes.
        may_write: Asked before each write: whether this process leads, at this very moment.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        writer: PoolWriter,
        telemetry: Telemetry,
        may_write: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._telemetry = telemetry
        self._may_write = may_write
        self._clock = clock
        self._writing: dict[Key, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    def publish(
        self, pool: InferencePool, runtime: PoolRuntime, value: OverflowValue, lease_seconds: float
    ) -> None:
        """Begin to write the value where that is needed; a pool that may not burst loses its own.

        Args:
            pool: The pool, with its annotation as the watch last saw it.
            runtime: Its memory.
            value: What is published now.
            lease_seconds: Life of a value; at half of it, it is renewed.
        """
        if runtime.key in self._writing or self._waits(pool, runtime):
            return
        if not runtime.versions.lags(pool.resource_version, runtime.annotated_as):
            runtime.read_annotation(pool)
        if pool.spec.burst is None or pool.spec.mode is not Mode.ACTIVE:
            if runtime.annotation is None:
                return
            text = None
        elif runtime.facts is not None and runtime.facts.generation != pool.generation:
            # Decided on a spec that has changed; the slow loop takes the new one within a second.
            runtime.computed_on = None
            return
        elif needs_rewrite(runtime.annotated, value, time.time(), lease_seconds):
            text = to_json(quantise(value))
        else:
            return
        task = asyncio.create_task(self._in_turn(pool, runtime, value, text))
        self._writing[runtime.key] = task
        task.add_done_callback(partial(self._ended, runtime.key))

    def _waits(self, pool: InferencePool, runtime: PoolRuntime) -> bool:
        """Whether a try that failed is too fresh to be repeated."""
        if self._clock() >= runtime.annotate_from:
            return False
        return runtime.annotate_past in {None, pool.resource_version}

    async def close(self) -> None:
        """Give up what is still under way."""
        for task in list(self._writing.values()):
            task.cancel()
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._writing.get(key) is task:
            del self._writing[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("annotating failed", pool="/".join(key), error=repr(error))

    async def _in_turn(
        self, pool: InferencePool, runtime: PoolRuntime, value: OverflowValue, text: str | None
    ) -> None:
        """Write once there is a place; what is published by then, if that is newer."""
        async with self._places:
            newest = runtime.overflow
            if text is not None and newest is not None and newest is not value:
                value, text = newest, to_json(quantise(newest))
            await self._write(pool, runtime, value, text)

    async def _write(
        self, pool: InferencePool, runtime: PoolRuntime, value: OverflowValue, text: str | None
    ) -> None:
        if not self._may_write():
            return

        async def send(version: str) -> str:
            return await self._writer.write_overflow(
                pool.namespace, pool.name, pool.uid, version, text
            )

        try:
            version = await runtime.versions.write(pool.resource_version, send)
        except ApiError as error:
            self._telemetry.writes.labels("overflow", "failed").inc()
            log.warning("overflow not annotated", pool=pool.key, error=str(error))
            runtime.annotate_from = self._clock() + _RETRY_SECONDS
            runtime.annotate_past = pool.resource_version if isinstance(error, Conflict) else None
            # A value that is not written yet is looked at again, also where nothing else is new.
            runtime.computed_on = None
            return
        runtime.annotation, runtime.annotated = text, None if text is None else value
        runtime.annotated_as = version
        self._telemetry.writes.labels("overflow", "ok").inc()
