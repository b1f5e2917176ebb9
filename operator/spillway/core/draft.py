"""A decision on its way through the chain of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.decision import ReasonNote
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from spillway.api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Draft:
    """What is asked for so far, and why.

    Attributes:
        desired: Serving replicas so far.
        notes: The policy's reason, then those of the limits that had a say.
        hold: Nothing may be reduced.
        write: Anything may be written.
    """

    desired: int
    notes: tuple[ReasonNote, ...]
    hold: bool = False
    write: bool = True

    def limited(self, desired: int, reason: Reason, message: str) -> Draft:
        """The draft with another number, or only with a reason, and the note of it."""
        return replace(self, desired=desired, notes=(*self.notes, ReasonNote(reason, message)))

    def held(self) -> Draft:
        """The draft with nothing to be reduced."""
        return replace(self, hold=True)

    def unwritten(self) -> Draft:
        """The draft with nothing to be written."""
        return replace(self, write=False)
