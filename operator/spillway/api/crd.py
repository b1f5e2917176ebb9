"""The CustomResourceDefinition of InferencePool, generated from its models.

python -m spillway.api.crd                 # print it
python -m spillway.api.crd --write PATH    # write it
python -m spillway.api.crd --check PATH    # exit 1 when PATH is stale
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from spillway.api.inferencepool import InferencePoolSpec, InferencePoolStatus
from spillway.api.names import GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from spillway.api.schema import structural_schema

_HEADER: Final = "# Generated from operator/spillway/api by `make crds`; do not edit.\n"

#: What `kubectl get spool` shows: name, type, JSONPath, description.
_COLUMNS: Final = (
    ("Model", "string", ".spec.modelName", "Model that the pool serves."),
    ("Floor", "integer", ".spec.replicas.floor", "Replicas that always serve."),
    ("Serving", "integer", ".status.replicas.serving", "Replicas in the Service."),
    ("Warm", "integer", ".status.replicas.warm", "Idle replicas, ready to serve."),
    ("Desired", "integer", ".status.replicas.desired", "Serving replicas that are wanted."),
    ("Overflow", "string", ".status.overflow.percent", "Share that leaves for a paid API."),
    ("$/h", "string", ".status.cost.totalPerHour", "Cost rate, GPUs and API, US dollars."),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Condition Ready."),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the pool was made."),
)


def _object_schema() -> dict[str, Any]:
    spec = structural_schema(InferencePoolSpec)
    status = structural_schema(InferencePoolStatus, defaults=False)
    return {
        "type": "object",
        "description": (
            "InferencePool is a model served by replicas of one or more workloads, scaled by cost "
            "within a latency promise, with overflow to paid APIs."
        ),
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": "Version of the schema of this object.",
            },
            "kind": {"type": "string", "description": "Kind of this object."},
            # The API server takes no description here: it knows metadata itself.
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def custom_resource_definition() -> dict[str, Any]:
    """The CustomResourceDefinition as a plain object, as one would send it to the API server."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path, "description": description}
        for name, kind, path, description in _COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _object_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": ["spillway"],
            },
            "versions": [version],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes every object in full: an anchor for what happens to be equal helps no reader."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def render() -> str:
    """The CRD as YAML, the same text every time."""
    # CSafeDumper breaks lines elsewhere; the plain one is the same on every machine.
    body = yaml.dump(
        custom_resource_definition(),
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
        allow_unicode=True,
    )
    return _HEADER + body


def _stale(path: Path) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != render()


def main(arguments: list[str] | None = None) -> int:
    """Print, write or check the CRD; 1 when the checked file is stale."""
    parser = argparse.ArgumentParser(prog="python -m spillway.api.crd", description=main.__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="PATH", help="write the CRD to PATH")
    action.add_argument("--check", type=Path, metavar="PATH", help="exit 1 if PATH is stale")
    options = parser.parse_args(arguments)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(render(), encoding="utf-8")
    elif options.check:
        if _stale(options.check):
            sys.stderr.write(f"{options.check} is stale: run make crds\n")
            return 1
    else:
        sys.stdout.write(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
