"""The page of the commands, from the commands themselves."""

from __future__ import annotations

import enum
import inspect
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from spillway.cli.lazy import loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """\
# Commands

`spillway COMMAND`, or `kubectl spillway COMMAND`: the package installs itself as a kubectl plugin
and completes in kubectl too ([how](../how-to/kubectl-plugin.md)).

- `--json` prints one JSON object for scripts, with every command but `run` (whose log is JSON) and
  `completion`. Errors go to standard error.
- Colours are for terminals alone, and `NO_COLOR` turns them off.
- [Exit codes](exit-codes.md) are the same everywhere.
- Commands that ask a cluster take `--kubeconfig`, `--context` and, where they look at single pools,
  `-n`; without it the namespace is the context's, as kubectl has it.
- `simulate`, `backtest` and plots need the extra `sim`: `pip install 'spillway[sim]'`.

"""


def cli_page() -> str:
    """Every command with its arguments, flags and examples."""
    from typer.main import get_command

    from spillway.cli import app
    from spillway.cli.manual import EXAMPLES

    found = list(_commands(get_command(app), ""))
    rows = "".join(
        f"| [{path}](#spillway-{path.replace(' ', '-')}) | {_first(command)} |\n"
        for path, command in found
    )
    parts = [_HEAD, "| Command | What it does |\n| --- | --- |\n", rows]
    for path, command in found:
        parts += [f"\n## spillway {path}\n\n", f"{_prose(command)}\n"]
        parts += ["\n```text\n", f"{_usage(path, command)}\n", "```\n"]
        flags = [row for parameter in command.params for row in _flag(parameter)]
        parts += ["\n| Flag | Default | Meaning |\n| --- | --- | --- |\n", *flags]
        parts += [f"\n{does}:\n\n```console\n$ {line}\n```\n" for does, line in EXAMPLES[path]]
    return "".join(parts)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _commands(loaded(inner), f"{path} {name}".strip())


def _prose(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _first(command: Any) -> str:
    return " ".join(_prose(command).split("\n\n")[0].split())


def _usage(path: str, command: Any) -> str:
    words = [f"spillway {path}"]
    required = [p for p in command.params if p.required and p.param_type_name == "option"]
    words += [f"{p.opts[0]} {_kind(p)}" for p in required]
    words.append("[FLAGS]")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name or "").upper().strip("[]")
            name = f"{name}..." if parameter.nargs == -1 else name
            words.append(name if parameter.required else f"[{name}]")
    return " ".join(words)


def _flag(parameter: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        return
    names = ", ".join(
        f"`{name}`" for name in (*parameter.opts, *getattr(parameter, "secondary_opts", ()))
    )
    kind = "" if getattr(parameter, "is_flag", False) else f" {_kind(parameter)}"
    text, said = _without_default(parameter.help or "")
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif said:
        shown = f"`{said}`"
    elif default is None or callable(default) or isinstance(default, bool) or default == "":
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    yield f"| {names}{kind} | {shown} | {text.replace('|', '/')} |\n"


def _kind(parameter: Any) -> str:
    return _word(parameter.type_descriptor.annotation)


def _word(annotation: Any) -> str:
    options = [option for option in get_args(annotation) if option is not type(None)]
    if options:
        return _word(options[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(str(member.value) for member in annotation)
    name = str(annotation.__name__)
    return {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}.get(name, name.upper())


def _without_default(text: str) -> tuple[str, str]:
    found = re.search(r" \(default: ([^)]+)\)$", text)
    return (text[: found.start()], found[1]) if found else (text, "")
