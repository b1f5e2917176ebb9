"""Manifests from files, folders and standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from spillway.api.names import GROUP, KIND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Standard input, as kubectl has it.
STDIN: Final = "-"
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_DEFAULT_NAMESPACE: Final = "default"


class UnreadableError(Exception):
    """A file is not there or may not be read; the message names it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object of a file, of which nothing is taken for granted.

    Attributes:
        file: Where it stands; ``-`` for standard input.
        raw: The object.
    """

    file: str
    raw: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its kind; "" where it says none."""
        return str(self.raw.get("kind") or "")

    @property
    def group(self) -> str:
        """Its API group; "" for core."""
        return str(self.raw.get("apiVersion") or "").rpartition("/")[0]

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        return part(self.raw, "metadata")

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec."""
        return part(self.raw, "spec")

    @property
    def name(self) -> str:
        """Its name; ``?`` where it has none."""
        return str(self.metadata.get("name") or "?")

    @property
    def namespace(self) -> str:
        """Its namespace; ``default`` where it says none."""
        return str(self.metadata.get("namespace") or _DEFAULT_NAMESPACE)

    @property
    def is_pool(self) -> bool:
        """Whether it is ours: the Gateway API Inference Extension owns the same kind."""
        return self.kind == KIND and self.group == GROUP

    def __str__(self) -> str:
        """``Deployment serving/llama-8b``."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a set of files holds.

    Attributes:
        manifests: Every object, in the order of the files.
        broken: Files that are not YAML, and why.
    """

    manifests: tuple[Manifest, ...]
    broken: tuple[tuple[str, str], ...]


def part(raw: object, *path: str) -> dict[str, Any]:
    """The object at a path; empty where there is none or something else."""
    for name in path:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def read(paths: Iterable[Path]) -> Reading:
    """Read files, folders (all YAML and JSON below them) and ``-``.

    Raises:
        UnreadableError: One is not there or may not be read.
    """
    manifests: list[Manifest] = []
    broken: list[tuple[str, str]] = []
    for path in paths:
        for file in _files(path):
            try:
                manifests.extend(Manifest(str(file), raw) for raw in _objects(_text(file)))
            except _NotYamlError as error:
                broken.append((str(file), str(error)))
    return Reading(tuple(manifests), tuple(broken))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not found:
        msg = f"{path}: no .yaml, .yml or .json file in this folder"
        raise UnreadableError(msg)
    return found


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == STDIN else path.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{path}: {error.strerror}; name a file that can be read"
        raise UnreadableError(msg) from error
    except ValueError as error:
        raise _NotYamlError.of(error) from error


class _NotYamlError(Exception):
    """A text is no YAML; the message says where it goes wrong."""

    @classmethod
    def of(cls, error: Exception) -> _NotYamlError:
        return cls(f"not YAML: {' '.join(str(error).split())}")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as kubectl apply does: one of the two would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    problem = f"the key {key.value!r} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except RecursionError as error:
        msg = "not YAML that can be read: it is nested too deeply"
        raise _NotYamlError(msg) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        # A ValueError is a date that there is not; a TypeError a key that can't be one.
        raise _NotYamlError.of(error) from error
    for document in documents:
        if not isinstance(document, dict):
            continue
        if str(document.get("kind", "")).endswith("List") and "items" in document:
            items = document["items"]
            yield from (i for i in items if isinstance(i, dict)) if isinstance(items, list) else ()
        else:
            yield document
