"""Copies LiteLLM's callback into the chart: charts/spillway/files/litellm_callback.py.

python -m tools.gen_chart_callback            # write
python -m tools.gen_chart_callback --check    # exit 1 when it is stale

Helm packs what is in the chart's folder alone, and the file has one place in the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spillway.gateways import litellm_callback
from tools.generated import write_or_check
from tools.helm import CHART

SOURCE: Final = Path(litellm_callback.__file__)
TARGET: Final = CHART / "files" / "litellm_callback.py"


def main() -> int:
    """Write the file, or compare."""
    return write_or_check(
        "Copies LiteLLM's callback into the chart.",
        TARGET,
        lambda: SOURCE.read_text(encoding="utf-8"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
