"""LiteLLM's proxy as a process, with Spillway's callback beside its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from spillway.gateways import litellm_callback
from tests.e2e.rig import binaries
from tests.e2e.rig.processes import Custody, ManagedProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

POOL: Final = "serving/llama"
MASTER_KEY: Final = "sk-master"
#: LiteLLM keeps keys in Postgres. What it takes in their place, so that requests come with an
#: alias and a team: a file of one's own. The key sk-key-A has alias A, sk-team-T is of team T.
AUTHENTICATION: Final = """\
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key):
    _, kind, name = api_key.split("-", 2)
    return UserAPIKeyAuth(
        api_key=api_key,
        key_alias=name if kind == "key" else None,
        team_id=name if kind == "team" else None,
    )
"""


class LiteLLM(ManagedProcess):
    """One proxy on loopback.

    Args:
        custody: Whose process it is.
        name: Its own.
        config: LiteLLM's configuration.
        environment: Variables of the callback's.
        authenticate: Whether requests come with the keys of `AUTHENTICATION`.
        callback: The callback's text; None: as the package has it.

    Attributes:
        url: Where it listens.
    """

    def __init__(
        self,
        custody: Custody,
        name: str,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        authenticate: bool = True,
        callback: str | None = None,
    ) -> None:
        python = binaries.ensure(names=("litellm-python",))["litellm-python"]
        folder = custody.directory / f"litellm-{name}"
        folder.mkdir()
        text = callback or Path(litellm_callback.__file__).read_text(encoding="utf-8")
        (folder / "litellm_callback.py").write_text(text, encoding="utf-8")
        written = dict(config)
        if authenticate:
            (folder / "authentication.py").write_text(AUTHENTICATION, encoding="utf-8")
            general = {"custom_auth": "authentication.check"}
            written["general_settings"] = general | (config.get("general_settings") or {})
        (folder / "config.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.metrics_target = f"127.0.0.1:{port}"
        super().__init__(
            custody,
            f"litellm-{name}",
            [
                str(python), "-c", "from litellm import run_server; run_server()",
                "--config", str(folder / "config.yaml"),
                "--host", "127.0.0.1", "--port", str(port),
            ],
            environment={
                # Nothing is fetched from outside, and nothing is told to anybody.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
                "LITELLM_MASTER_KEY": MASTER_KEY,
                "PYTHONPATH": "",
                **environment,
            },
            ready_url=f"{self.url}/health/readiness",
        )  # fmt: skip


def deployment(
    model: str, address: str, provider: str = "", *, pool: str = POOL, **params: Any
) -> dict[str, Any]:
    """One entry of ``model_list`` for an emulated server.

    Args:
        model: Model group.
        address: Base URL of the server.
        provider: Whose paid API it is; "" for the pool's own.
        pool: The pool's namespace and name.
        params: More of ``litellm_params``.
    """
    info = {"spillway_pool": pool} | ({"spillway_provider": provider} if provider else {})
    return {
        "model_name": model,
        "litellm_params": {
            "model": "openai/m", "api_base": f"{address}/v1", "api_key": "none", **params,
        },
        "model_info": info,
    }  # fmt: skip
