"""The emulated router reads the overflow value that the core publishes."""

from __future__ import annotations

from spillway.api.reasons import Reason
from spillway.core.overflow_value import Admit, Allowance, OverflowValue, ProviderShare, to_json
from tests.e2e.rig.emulator import router


def test_the_published_value_is_read_as_it_was_meant() -> None:
    published = OverflowValue(
        version=3,
        epoch=2,
        until=1_700_000_045.0,
        fraction=0.25,
        admit=Admit(40, None),
        allowance=Allowance(100, 1.5),
        providers=(ProviderShare("together", 0.25),),
        reason=next(iter(Reason)),
    )
    read = router.OverflowValue.model_validate_json(to_json(published))
    assert read.order == (2, 3)
    assert read.until.timestamp() == published.until
    assert read.fraction == 0.25
    assert read.admit == router.Admit(inFlight=40, promptTokens=None)
    assert read.allowance == router.Allowance(requests=100, usd=1.5)
    assert [(share.name, share.fraction) for share in read.providers] == [("together", 0.25)]
