"""``spillway crd``: print the CustomResourceDefinition that this version was built with."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from spillway.api.crd import custom_resource_definition, render


def crd(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """Print the CustomResourceDefinition of InferencePool."""
    if as_json:
        sys.stdout.write(f"{json.dumps(custom_resource_definition(), indent=2)}\n")
    else:
        sys.stdout.write(render())
