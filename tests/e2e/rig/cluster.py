"""The clusters that a rig can run on, by the name that ``--cluster`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.rig.binaries import REMOTE
from tests.e2e.rig.cluster_base import BaseCluster, Cluster, Component, UnsupportedError
from tests.e2e.rig.cluster_local import LocalCluster
from tests.e2e.rig.cluster_remote import CurrentCluster, KindCluster

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.e2e.rig.processes import Custody

_CLUSTERS: dict[str, type[BaseCluster]] = {
    "local": LocalCluster,
    "kind": KindCluster,
    "current": CurrentCluster,
}


def programs_for(name: str) -> tuple[str, ...] | None:
    """Which programs that kind of cluster needs; None is all of them."""
    return None if name == "local" else REMOTE


def make_cluster(name: str, custody: Custody, programs: Mapping[str, Path]) -> Cluster:
    """A cluster of that kind, not started yet.

    Args:
        name: local, kind or current.
        custody: Owns its files and processes.
        programs: What ``binaries.ensure`` returned.

    Raises:
        ValueError: There is no such kind.
    """
    if name not in _CLUSTERS:
        msg = f"cluster must be one of {', '.join(_CLUSTERS)}, got {name!r}"
        raise ValueError(msg)
    return _CLUSTERS[name](custody, programs)


__all__ = [
    "Cluster",
    "Component",
    "CurrentCluster",
    "KindCluster",
    "LocalCluster",
    "UnsupportedError",
    "make_cluster",
    "programs_for",
]
