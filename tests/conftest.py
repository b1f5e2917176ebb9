"""Options that the whole suite shares."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest


# A test is no stopwatch: what takes how long is measured in bench/. The quick profile looks at the
# same half of Hypothesis' usual number of examples each time, so that a change is to blame for what
# turns red and the quick suite takes less than a minute. The thorough one looks for new ones. The
# last two are for tests/fuzz, which leaves the number of examples to the profile.
settings.register_profile("quick", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.register_profile("fuzz", deadline=None, max_examples=500, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=("local", "kind", "current"),
        default="local",
        help="where end-to-end tests run: a control plane built here, kind, or your KUBECONFIG",
    )
    parser.addoption(
        "--fault-records",
        metavar="FILE",
        help="put the faults that were survived into this JSON file (see tools/gen_reliability.py)",
    )


def pytest_configure() -> None:
    """Take SIGINT back where a shell's ``&`` made us ignore it: children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
