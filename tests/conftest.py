"""Options that the whole suite shares."""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING

import structlog
import typer.testing
from hypothesis import settings
from typer.main import get_command

if TYPE_CHECKING:
    import pytest


# A test is no stopwatch: what takes how long is measured in bench/. The first two profiles look at
# the same examples each time, so that a change is to blame for what turns red: few of them in
# `make test-quick`, Hypothesis' usual number in `make test`. The thorough one looks for new ones.
# The last two are for tests/fuzz, which leaves the number of examples to the profile.
settings.register_profile("quick", deadline=None, max_examples=10, derandomize=True)
settings.register_profile("full", deadline=None, max_examples=100, derandomize=True)
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
    """Plain tracebacks in captured logs, and SIGINT as a program started by hand has it."""
    # structlog's own default draws every frame with its variables: seconds for each exception.
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])
    # Typer's runner builds every command's parser anew for each call.
    vars(typer.testing)["_get_command"] = functools.cache(get_command)
    # A shell's & makes what it starts ignore SIGINT, and children of ours would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
