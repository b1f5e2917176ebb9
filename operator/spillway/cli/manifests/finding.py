"""What was found about one pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spillway.cli.manifests.files import Manifest


@dataclass(slots=True)
class Findings:
    """Sentences about one pool, for a person.

    Attributes:
        problems: The pool would be refused, or could never do what it asks for.
        warnings: It works, but perhaps not as somebody thinks.
        unchecked: What there was nothing to compare with.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Around:
    """The objects of the files that share a pool's namespace.

    Attributes:
        manifests: All of them, pools left out.
    """

    manifests: tuple[Manifest, ...]

    def of(self, kind: str, *groups: str) -> list[Manifest]:
        """Those of a kind in one of the groups."""
        return [m for m in self.manifests if m.kind == kind and m.group in groups]

    def named(self, kind: str, group: str, name: str) -> Manifest | None:
        """The one of that kind and name."""
        return next((m for m in self.of(kind, group) if m.name == name), None)
