"""Commands that are imported when they are called, not when they are listed.

Every command needs something else: `run` Kopf, `top` the Kubernetes client, `simulate` numpy. Help,
completion and offline commands would pay for all of it, seconds of CPU time at each start.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Entry:
    """A command as its group lists it.

    Attributes:
        target: ``module:name`` of the function, or of the typer.Typer of a group.
        summary: What the list says of it: the first paragraph of the command's own help.
        epilog: End of the command's help.
        panel: Heading it stands under; None for the list without one.
    """

    target: str
    summary: str
    epilog: str | None = None
    panel: str | None = None


class LazyCommand(TyperCommand):
    """Name and summary of a command; the command itself takes over once it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name=name, help=entry.summary, rich_help_panel=entry.panel)
        self._entry = entry

    def load(self) -> Any:
        """Import the command."""
        module, _, name = self._entry.target.partition(":")
        found = getattr(import_module(module), name)
        if isinstance(found, typer.Typer):
            group = get_command(found)
            group.name = self.name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(self.name, epilog=self._entry.epilog)(found)
        return get_command(alone)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """The context of the command itself, so that it parses and runs."""
        return self.load().make_context(*args, **kwargs)


class LazyGroup(TyperGroup):
    """A group of commands that are not imported yet; a subclass names them."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: LazyCommand(name, e) for name, e in self.entries.items()})


def loaded(command: Any) -> Any:
    """The command itself, imported where it is not yet; for whoever reads its parameters."""
    return command.load() if isinstance(command, LazyCommand) else command
