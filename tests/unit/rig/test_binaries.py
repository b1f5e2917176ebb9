"""Getting the rig's programs; that they are built and run is shown by the end-to-end tests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.e2e.rig import binaries

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_two_who_want_the_same_program_at_once_build_it_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPILLWAY_RIG_CACHE", str(tmp_path))
    built = tmp_path / "program"
    builds: list[str] = []

    def get(program: binaries.Program) -> Path:
        builds.append(program.name)
        time.sleep(0.05)
        built.touch()
        return built

    monkeypatch.setattr(binaries, "_at_hand", lambda _: built if built.exists() else None)
    monkeypatch.setattr(binaries, "_get", get)
    both = threading.Barrier(2)

    def obtain() -> Path:
        both.wait()
        return binaries._obtain(binaries.PROGRAMS[0])

    with ThreadPoolExecutor(2) as pool:
        found = [future.result() for future in [pool.submit(obtain) for _ in range(2)]]
    assert found == [built, built]
    assert builds == [binaries.PROGRAMS[0].name]
