"""When the overflow annotation is written, and what happens when that fails."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from spillway.adapters.kube.errors import Forbidden
from spillway.api.inferencepool import Mode
from spillway.api.names import OVERFLOW_ANNOTATION
from spillway.api.reasons import Reason
from spillway.controller import annotator
from spillway.controller.annotator import Annotator
from spillway.controller.runtime import PoolRuntime, Runtimes
from spillway.core.overflow import Allowance, OverflowValue, ProviderShare, to_json
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams

if TYPE_CHECKING:
    from spillway.api.validation import InferencePool

LEASE = 45.0
#: Namespace, name and UID, as a writer takes them.
IDENTITY = (fakes.NAMESPACE, "pool", "uid-pool")


class Setting:
    def __init__(self, **changes: Any) -> None:
        self.seams = Seams()
        self.seconds = 1000.0
        self.pool = fakes.pool(burst=fakes.burst_spec(), **changes)
        self.runtime: PoolRuntime = Runtimes(lambda _: None).of(self.pool, time.time())
        self.annotator = Annotator(
            writer=cast("Any", self.seams.writer),
            telemetry=self.seams.telemetry,
            may_write=self.seams.lease.is_leader,
            clock=lambda: self.seconds,
        )

    async def publish(self, value: OverflowValue, pool: InferencePool | None = None) -> None:
        self.annotator.publish(pool or self.pool, self.runtime, value, LEASE)
        await asyncio.gather(*self.annotator._writing.values())

    def metric(self, result: str) -> float | None:
        return self.seams.metric("spillway_api_writes_total", kind="overflow", result=result)

    @property
    def written(self) -> list[Any]:
        return [entry[2] for entry in self.seams.journal.of("annotation")]

    def annotated(self, text: str | None, version: str | None = None) -> InferencePool:
        """The pool as the watch shows it with this annotation; its present version if not told."""
        annotations = {} if text is None else {OVERFLOW_ANNOTATION: text}
        version = version or self.seams.writer.versions["pool"]
        return replace(self.pool, annotations=annotations, resource_version=version)

    def edited(self) -> str:
        """Somebody else edits the pool; the version that it has then."""
        versions = self.seams.writer.versions
        versions["pool"] = str(int(versions.get("pool", self.pool.resource_version)) + 1)
        return versions["pool"]


def value(fraction: float = 0.5, version: int = 1) -> OverflowValue:
    return OverflowValue(
        version=version,
        epoch=7,
        until=time.time() + LEASE,
        fraction=fraction,
        admit=None,
        allowance=Allowance(10, 1.0),
        providers=(ProviderShare("api", fraction),),
        reason=Reason.SHORTAGE,
    )


async def test_a_value_is_written_once_and_again_when_it_really_changes() -> None:
    setting = Setting()
    for fraction in (0.5, 0.501, 0.499, 0.6):
        await setting.publish(value(fraction))
    assert [json.loads(text)["fraction"] for text in setting.written] == [0.5, 0.6]


async def test_a_value_is_renewed_at_half_of_its_life() -> None:
    setting = Setting()
    await setting.publish(replace(value(), until=time.time() + LEASE / 2 - 1))
    await setting.publish(value())
    await setting.publish(value())
    assert len(setting.written) == 2


async def test_a_pool_that_leaves_active_or_burst_loses_its_annotation_once() -> None:
    for changes in ({"mode": Mode.PAUSED}, {"burst": None}):
        setting = Setting()
        await setting.publish(value())
        left = replace(setting.pool, spec=setting.pool.spec.model_copy(update=changes))
        for _ in range(3):
            await setting.publish(value(), left)
        assert setting.written[1:] == [None]


async def test_an_unreadable_annotation_goes_too() -> None:
    setting = Setting(annotations={OVERFLOW_ANNOTATION: "garbage"}, mode="Paused")
    await setting.publish(value())
    assert setting.written == [None]


async def test_what_somebody_else_wrote_is_put_right_as_soon_as_it_is_seen() -> None:
    setting = Setting()
    await setting.publish(value())
    (ours,) = setting.written
    for text in (None, "garbage", to_json(value(0.9, version=99))):
        setting.edited()
        await setting.publish(value(), setting.annotated(text))
        await setting.publish(value(), setting.annotated(ours))
    assert len(setting.written) == 4


async def test_a_watch_that_lags_behind_our_own_write_changes_nothing() -> None:
    setting = Setting()
    await setting.publish(value())
    for _ in range(60):
        setting.seconds += 1
        await setting.publish(value(), setting.annotated(None, version="1"))
    assert len(setting.written) == 1


async def test_own_writes_that_the_watch_has_not_shown_yet_are_no_conflict() -> None:
    """A burst that begins: values and statuses follow each other faster than the watch does."""
    setting = Setting()
    for number in range(5):
        await setting.publish(value(0.1 * number))
        await setting.runtime.versions.write(
            "1", partial(setting.seams.writer.write_status, *IDENTITY, status={})
        )
    assert [kind for kind, *_ in setting.seams.journal] == ["annotation", "status"] * 5


async def test_a_write_waits_for_the_one_before_it_and_is_no_conflict() -> None:
    setting = Setting()
    status = partial(setting.seams.writer.write_status, *IDENTITY, status={})
    await asyncio.gather(
        setting.runtime.versions.write("1", status),
        setting.publish(value()),
        return_exceptions=False,
    )
    assert [kind for kind, *_ in setting.seams.journal] == ["status", "annotation"]


async def test_a_pool_that_somebody_edits_meanwhile_is_decided_on_anew_and_at_once() -> None:
    """The value is not lost, and what the other has written is read before it is written again."""
    setting = Setting()
    await setting.publish(value(0.2))
    version = setting.edited()
    # The watch has not shown the edit yet: the write fails, and is not tried again before it has.
    for _ in range(3):
        await setting.publish(value(0.5))
        setting.seconds += 1
    assert setting.metric("failed") == 1
    assert len(setting.written) == 1
    await setting.publish(value(0.5), setting.annotated(None, version))
    assert [json.loads(text)["fraction"] for text in setting.written] == [0.2, 0.5]


async def test_a_conflict_that_the_watch_never_explains_is_tried_again_after_a_while() -> None:
    setting = Setting()
    version = setting.edited()
    await setting.publish(value())
    setting.seams.writer.versions["pool"] = "1"
    setting.seconds += 4.9
    await setting.publish(value())
    assert (version, setting.written) == ("2", [])
    setting.seconds += 0.2
    await setting.publish(value())
    assert len(setting.written) == 1


async def test_a_value_that_could_not_be_written_is_computed_again_at_the_next_tick() -> None:
    setting = Setting()
    setting.runtime.computed_on = cast("Any", object())
    setting.edited()
    await setting.publish(value(0.0))
    assert setting.runtime.computed_on is None


async def test_a_value_that_was_decided_on_another_spec_is_not_written() -> None:
    setting = Setting()
    setting.runtime.facts = cast("Any", SimpleNamespace(generation=1))
    later = replace(setting.pool, generation=2, resource_version="2")
    await setting.publish(value(), later)
    assert setting.written == []
    setting.runtime.facts = cast("Any", SimpleNamespace(generation=2))
    await setting.publish(value(), later)
    assert len(setting.written) == 1


async def test_one_write_of_a_pool_at_a_time() -> None:
    setting = Setting()
    setting.seams.writer.hangs.add("pool")
    for version in range(3):
        setting.annotator.publish(setting.pool, setting.runtime, value(version=version), LEASE)
    assert len(setting.annotator._writing) == 1
    await setting.annotator.close()
    await asyncio.sleep(0)
    assert setting.annotator._writing == {}


async def test_nothing_is_kept_of_pools_once_they_are_written() -> None:
    setting = Setting()
    for number in range(50):
        pool = fakes.pool(f"pool{number}", burst=fakes.burst_spec())
        runtime = Runtimes(lambda _: None).of(pool, time.time())
        setting.annotator.publish(pool, runtime, value(), LEASE)
    await asyncio.gather(*setting.annotator._writing.values())
    await asyncio.sleep(0)
    assert setting.annotator._writing == {}


async def test_a_failure_is_counted_and_not_tried_at_each_tick() -> None:
    setting = Setting()
    setting.seams.writer.failures["pool"] = Forbidden(403, "Forbidden", "may not patch")
    for _ in range(5):
        await setting.publish(value())
        setting.seconds += 0.5
    labels = {"kind": "overflow", "result": "failed"}
    assert setting.seams.metric("spillway_api_writes_total", **labels) == 1
    assert setting.runtime.annotated is None
    setting.seams.writer.failures.clear()
    setting.seconds += 5
    await setting.publish(value())
    assert len(setting.written) == 1


async def test_an_error_that_nobody_foresaw_ends_nothing() -> None:
    setting = Setting()
    setting.seams.writer.failures["pool"] = RuntimeError("odd")
    setting.annotator.publish(setting.pool, setting.runtime, value(), LEASE)
    await asyncio.gather(*setting.annotator._writing.values(), return_exceptions=True)
    setting.seams.writer.failures.clear()
    await setting.publish(value())
    assert len(setting.written) == 1


async def test_without_the_lease_nothing_is_written() -> None:
    setting = Setting()
    setting.seams.lease.leads = False
    await setting.publish(value())
    assert setting.written == []


async def test_two_hundred_values_do_not_all_book_a_place_at_the_write_limit() -> None:
    setting = Setting()
    begun, go_on = 0, asyncio.Event()

    async def write_overflow(*_: Any) -> str:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return "2"

    setting.annotator._writer = cast("Any", SimpleNamespace(write_overflow=write_overflow))
    pools = [fakes.pool(f"pool{n}", burst=fakes.burst_spec()) for n in range(200)]
    runtimes = [Runtimes(lambda _: None).of(pool, time.time()) for pool in pools]
    for pool, runtime in zip(pools, runtimes, strict=True):
        setting.annotator.publish(pool, runtime, value(), LEASE)
    await asyncio.sleep(0.01)
    assert begun == annotator._AT_ONCE
    # One that has waited is written as it is by then.
    runtimes[-1].overflow = value(0.9)
    go_on.set()
    await asyncio.gather(*setting.annotator._writing.values())
    assert begun == 200
    assert [json.loads(r.annotation or "")["fraction"] for r in runtimes[-2:]] == [0.5, 0.9]
