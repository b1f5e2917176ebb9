from __future__ import annotations

from spillway.core.samples import owes_sample, reporting

from .pools import START, load, pod


def test_a_replica_owes_a_sample_a_minute_after_it_became_ready() -> None:
    started = pod("new", None, since=START - 59)
    late = pod("late", None, since=START - 61)
    assert not owes_sample(started, START)
    assert owes_sample(late, START)
    assert reporting([started, late, pod("old", load(START))], START)[1] == 2
