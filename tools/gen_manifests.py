"""Writes manifests/ from the chart, so that Helm's users and kustomize's get the same objects.

    python -m tools.gen_manifests            # write
    python -m tools.gen_manifests --check    # exit 1 and name the files that are stale

The chart is the source: what it renders, comments included, becomes kustomize's base and
components, and the one file for ``kubectl apply -f``. What only Helm needs (its labels and hooks)
is taken off.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import yaml

from tools.helm import NAMESPACE, ROOT, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MANIFESTS: Final = ROOT / "manifests"
CRD: Final = ROOT / "crds" / "spillway.dev_inferencepools.yaml"
#: Example namespace of the component single-namespace.
POOLS: Final = "serving"
_NOTE: Final = (
    "# Written by tools/gen_manifests.py from charts/spillway (make manifests); do not edit.\n"
)
#: Labels that say which chart and which tool installed an object.
_HELM_LINE: Final = re.compile(
    r"^ *(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE
)
_BASE: Final = (
    "serviceaccount.yaml",
    "rbac.yaml",
    "deployment.yaml",
    "service.yaml",
    "poddisruptionbudget.yaml",
)
#: Components that only add objects: the template, the values that turn it on, and what it is.
_ADDITIONS: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "monitoring": (
        "monitors.yaml prometheusrule.yaml dashboard.yaml",
        {
            "serviceMonitor": {"enabled": True},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        },
        "Scraping, alerts and the dashboard, for the Prometheus operator and Grafana's sidecar.",
    ),
    "network-policy": (
        "networkpolicy.yaml",
        {"networkPolicy": {"enabled": True}},
        "Nothing but the port of /metrics and /v1/overflow can be reached.",
    ),
    "admission-policy": (
        "admission-policy.yaml",
        {"admissionPolicy": {"enabled": True}},
        "The operator's account (by the base's names) changes marks and weights, and no spec.",
    ),
    "route-reset": (
        "route-reset.yaml",
        {},
        "Resets route weights whose operator is gone, by a CronJob with rights of its own.",
    ),
}


def plain(text: str) -> str:
    """A rendered template without what only Helm needs."""
    kept = _HELM_LINE.sub("", text).strip().removeprefix("---").strip()
    return re.sub(r"[ \t]+$", "", kept, flags=re.MULTILINE) + "\n"


def documents(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each document of a file, as text and as data."""
    for part in re.split(r"^---\n", text, flags=re.MULTILINE):
        data = yaml.safe_load(part)
        if data:
            yield part.strip() + "\n", data


def files() -> dict[Path, str]:
    """Every generated file with its text."""
    base = render()
    found = {MANIFESTS / "base" / name: _NOTE + plain(base[name]) for name in _BASE}
    found |= _single_namespace()
    for component, (templates, values, what) in _ADDITIONS.items():
        found |= _addition(component, templates.split(), values, what)
    found[MANIFESTS / "install.yaml"] = _install(base)
    return found


def _install(base: dict[str, str]) -> str:
    namespace = (MANIFESTS / "base" / "namespace.yaml").read_text(encoding="utf-8")
    parts = [CRD.read_text(encoding="utf-8"), namespace, *(plain(base[name]) for name in _BASE)]
    head = f"{_NOTE}#\n#   kubectl apply --server-side -f manifests/install.yaml\n"
    return head + "---\n".join(part.removeprefix("---\n") for part in parts)


def _single_namespace() -> dict[Path, str]:
    folder = MANIFESTS / "components" / "single-namespace"
    text = plain(render({"watchNamespaces": [POOLS]})["rbac.yaml"])
    bindings = [
        part for part, data in documents(text)
        if data["kind"] == "RoleBinding" and data["metadata"].get("namespace") == POOLS
    ]  # fmt: skip
    (cluster,) = [
        part for part, data in documents(text)
        if data["kind"] == "ClusterRole" and data["metadata"]["name"].endswith("-cluster")
    ]  # fmt: skip
    return {
        folder / "rolebindings.yaml": _NOTE + "---\n".join(bindings),
        # A list of rules is replaced as a whole.
        folder / "cluster-role.yaml": _NOTE + cluster,
    }


def _addition(
    component: str, templates: Sequence[str], values: dict[str, Any], what: str
) -> dict[Path, str]:
    folder = MANIFESTS / "components" / component
    rendered = render(values)
    resources = "".join(f"  - {name}\n" for name in templates)
    kustomization = (
        f"{_NOTE}# {what}\n#   components: [../../manifests/components/{component}]\n"
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        f"resources:\n{resources}"
    )
    return {
        folder / "kustomization.yaml": kustomization,
        **{folder / name: _NOTE + plain(rendered[name]) for name in templates},
    }


def stale(wanted: dict[Path, str]) -> list[str]:
    """Files that are not as they would be written, by their path in the repository."""
    return [
        str(path.relative_to(ROOT))
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the files, or compare."""
    parser = argparse.ArgumentParser(description=f"Writes manifests/ ({NAMESPACE}) from the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    wanted = files()
    if parser.parse_args().check:
        old = stale(wanted)
        for name in old:
            sys.stderr.write(f"{name} is stale: run make manifests\n")
        return 1 if old else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
