"""Renders the chart with Helm itself, as tools and tests need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import helm_python as helm

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "spillway"
NAMESPACE: Final = "spillway-system"


def render(
    values: dict[str, Any] | None = None, *, name: str = "spillway", namespace: str = NAMESPACE
) -> dict[str, str]:
    """What ``helm template`` would print, by the template's path under ``templates/``.

    Templates that render to nothing are left out.

    Raises:
        helm.HelmError: The values are refused, or a template fails.
    """
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name=name, namespace=namespace)
    prefix = f"{CHART.name}/templates/"
    return {path.removeprefix(prefix): text for path, text in texts.items() if text.strip()}
