"""What commands that ask a cluster have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import pytest
import structlog

from spillway.adapters.kube import client
from spillway.cli.connecting import ask

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    config = structlog.get_config()
    yield
    structlog.configure(**config)


class Connected:
    """A cluster that is not asked."""

    @classmethod
    async def connect(cls, *_: object) -> Self:
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def test_what_an_adapter_logs_is_no_output_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "Cluster", Connected)

    async def work(_: object) -> int:
        structlog.get_logger("spillway.test").warning("credentials could not be read anew")
        return 7

    assert ask(work, None, None) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "credentials could not be read anew" in captured.err
