"""Copies LiteLLM's callback into the chart: charts/spillway/files/litellm_callback.py.

python -m tools.gen_chart_callback            # write
python -m tools.gen_chart_callback --check    # exit 1 when it is stale

Helm packs what is in the chart's folder alone, and the file has one place in the package.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from spillway.gateways import litellm_callback
from tools.helm import CHART

SOURCE: Final = Path(litellm_callback.__file__)
TARGET: Final = CHART / "files" / "litellm_callback.py"


def main() -> int:
    """Write the file, or compare."""
    parser = argparse.ArgumentParser(description="Copies LiteLLM's callback into the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    text = SOURCE.read_text(encoding="utf-8")
    if parser.parse_args().check:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{TARGET.name} is stale: run make manifests\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
