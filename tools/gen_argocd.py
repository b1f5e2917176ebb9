"""Writes the patch of argocd-cm from the Lua files: manifests/argocd/argocd-cm.yaml.

    python -m tools.gen_argocd            # write
    python -m tools.gen_argocd --check    # exit 1 when it is stale

Tests run the Lua files themselves; Argo CD reads them from its ConfigMap.
"""

from __future__ import annotations

from typing import Final

import yaml

from tools.generated import write_or_check
from tools.helm import ROOT

FOLDER: Final = ROOT / "manifests" / "argocd"
TARGET: Final = FOLDER / "argocd-cm.yaml"
#: Resource actions; their order is that of the buttons.
ACTIONS: Final = ("pause", "resume", "advise")
_KIND: Final = "spillway.dev_InferencePool"
_HEAD: Final = """\
# Written by tools/gen_argocd.py from lua/ (make manifests); do not edit. How Argo CD judges an
# InferencePool, and the buttons it shows on one:
#   kubectl patch configmap argocd-cm -n argocd --patch-file manifests/argocd/argocd-cm.yaml
"""


class _Block(str):
    """Text that YAML writes as a block."""

    __slots__ = ()


def _block(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


def _lua(name: str) -> str:
    return (FOLDER / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def config_map() -> str:
    """The file's text."""
    yaml.SafeDumper.add_representer(_Block, _block)
    actions = {
        "discovery.lua": _Block(_lua("discovery")),
        "definitions": [{"name": name, "action.lua": _Block(_lua(name))} for name in ACTIONS],
    }
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-cm",
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/part-of": "argocd"},
        },
        "data": {
            f"resource.customizations.health.{_KIND}": _Block(_lua("health")),
            f"resource.customizations.actions.{_KIND}": _Block(
                yaml.safe_dump(actions, sort_keys=False)
            ),
        },
    }
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=1000)


def main() -> int:
    """Write the file, or compare."""
    return write_or_check("Writes Argo CD's ConfigMap from the Lua files.", TARGET, config_map)


if __name__ == "__main__":
    raise SystemExit(main())
