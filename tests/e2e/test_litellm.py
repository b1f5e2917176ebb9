"""LiteLLM's real Router with Spillway's callback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from spillway.gateways import litellm_callback
from tests.e2e import litellm_choices
from tests.e2e.rig import binaries


def test_of_ten_thousand_choices_under_overload_no_marked_request_leaves() -> None:
    python = binaries.ensure(names=("litellm-python",))["litellm-python"]
    done = subprocess.run(
        [str(python), str(Path(litellm_choices.__file__)), litellm_callback.__file__],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert sum(seen.values()) == litellm_choices.REQUESTS
    assert not [name for name in seen if name.endswith("cloud") and name != "plain cloud"]
    assert all(seen[f"{kind} local"] > 1000 for kind in litellm_choices.MARKED)
    assert seen["plain cloud"] > 3000
