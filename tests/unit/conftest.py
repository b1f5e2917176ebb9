from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_system_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client loads all of the system's certificates at its start, for plain HTTP too: 70 ms."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
