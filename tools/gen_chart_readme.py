"""Writes the chart's README from its values and their schema.

python -m tools.gen_chart_readme            # write
python -m tools.gen_chart_readme --check    # exit 1 when it is stale
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from tools.generated import write_or_check
from tools.helm import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = CHART / "README.md"
_HEAD: Final = """\
<!-- Written by tools/gen_chart_readme.py from values.yaml and values.schema.json (make manifests);
     do not edit. -->
# Spillway's chart

{description}. Version {version}, Kubernetes {kube}.

    helm install spillway charts/spillway --namespace spillway-system --create-namespace \\
      --set image.repository=REGISTRY/spillway

[Install](../../docs/how-to/install-helm.md), [upgrade](../../docs/how-to/upgrade.md),
[uninstall](../../docs/how-to/uninstall.md), [dashboards](../../docs/how-to/dashboards.md),
[alerts](../../docs/how-to/alerts.md).

Whoever may edit an InferencePool may scale its workloads and spend its budget: bind the role
`...-pool-editor` as you would hand out a credit card.

## Values

Helm refuses a value that is not in this table.

| Value | Default | What it is |
| --- | --- | --- |
"""


def _rows(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, part in schema["properties"].items():
        key = f"{prefix}{name}"
        if name not in values:
            continue
        inner = part.get("properties")
        if inner and isinstance(values[name], dict) and set(inner) & set(values[name]):
            yield f"| **`{key}`** | | {part['description']} |"
            yield from _rows(values[name], part, f"{key}.")
            continue
        default = json.dumps(values[name], separators=(", ", ": "))
        text = str(part["description"]).replace("|", "\\|")
        choice = f" One of {', '.join(part['enum'])}." if "enum" in part else ""
        yield f"| `{key}` | `{default}` | {text}{choice} |"


def readme() -> str:
    """The file's text."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    head = _HEAD.format(
        description=chart["description"], version=chart["version"], kube=chart["kubeVersion"]
    )
    return head + "\n".join(_rows(values, schema)) + "\n"


def main() -> int:
    """Write the file, or compare."""
    return write_or_check("Writes the chart's README.", TARGET, readme)


if __name__ == "__main__":
    raise SystemExit(main())
