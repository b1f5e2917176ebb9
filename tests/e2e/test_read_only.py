"""The cluster-wide switch: status and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from tests.e2e.test_modes import ENGINE, SPIKE, WARM, roles
from tests.e2e.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario


@pytest.fixture(scope="module")
def read_only(rig: Rig) -> Iterator[OperatorProcess]:
    """An operator that may write nothing but status."""
    yield rig.start_operator("reader", read_only=True)
    rig.stop_operators()


def test_the_cluster_wide_switch_lets_status_through_and_nothing_else(
    scenario: Callable[..., Scenario], read_only: OperatorProcess
) -> None:
    pool = scenario(spec=WARM, emulator=ENGINE)
    pool.start()
    pool.wait_condition("Paused", "True", Reason.READ_ONLY.value)
    pool.rate(SPIKE)
    pool.wait("it would scale", lambda: pool.status()["replicas"]["desired"] > 2, timeout=90)
    looks = watch_for(pool, 3)
    assert {seen.replicas for seen in looks} == {2}
    assert roles(pool) == [Role.SERVING, Role.SERVING]
    assert pool.annotation() is None
    assert pool.traffic()["cloud_total"] == 0
    assert not read_only.log_lines(event="scaled")
