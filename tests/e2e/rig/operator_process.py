"""An operator as a process: the real command, with its log as data."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tests.e2e.rig.processes import ManagedProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.e2e.rig.processes import Custody

#: Periods and leases short enough for tests; an assertion about time scales with them.
FAST: Mapping[str, Any] = {
    "slow_tick_seconds": 1.0,
    "fast_tick_seconds": 0.25,
    "lease_duration_seconds": 4.0,
    "lease_renew_seconds": 3.0,
    "lease_retry_seconds": 0.5,
    "overflow_lease_seconds": 10.0,
    "rate_window_seconds": 10.0,
}


def variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by their field names as ``SPILLWAY_*``; those that are None stay unset."""
    return {
        f"SPILLWAY_{name.upper()}": str(value)
        for name, value in settings.items()
        if value is not None
    }


class OperatorProcess(ManagedProcess):
    """One replica of the operator.

    Args:
        custody: Whose process it is.
        name: Its identity in the Lease, and the name of its log.
        kubeconfig: Its way to the API server.
        settings: Fields of the operator's settings; ``http_port`` is chosen here.
        args: More arguments of ``spillway run``.
        altered: Variables of `altered_operator`, which then runs in its place.
    """

    def __init__(
        self,
        custody: Custody,
        name: str,
        kubeconfig: Path,
        settings: Mapping[str, Any],
        args: Sequence[str] = (),
        altered: Mapping[str, str] | None = None,
    ) -> None:
        module = "spillway" if altered is None else "tests.e2e.rig.altered_operator"
        port = free_ports(1)[0]
        self.identity = name
        self.url = f"http://127.0.0.1:{port}"
        chosen = {
            "http_host": "127.0.0.1", "http_port": port, "identity": name, **settings
        }  # fmt: skip
        super().__init__(
            custody,
            f"operator-{name}",
            [sys.executable, "-m", module, "run", "--kubeconfig", str(kubeconfig), *args],
            environment={"POD_NAME": name, **variables(chosen), **(altered or {})},
            ready_url=f"{self.url}/readyz",
        )

    def log_lines(self, **fields: Any) -> list[dict[str, Any]]:
        """Its JSON log lines that have these fields with these values, oldest first.

        A line that is not JSON, such as a traceback on the way out, is left out; ``tail`` has it.
        """
        found = []
        for text in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and all(line.get(k) == v for k, v in fields.items()):
                found.append(line)
        return found
