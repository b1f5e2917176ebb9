"""Every command that the documentation shows, and who runs it.

Commands stand behind ``$ `` in console blocks, or as indented blocks that begin with a program.
Each has one kind; a test of the quick suite or an end-to-end test runs those that can run here, and
`NOT_RUN` says why the others are not.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "charts/spillway/README.md"]
)
_FENCE: Final = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_PROGRAMS: Final = "helm|kubectl|docker|spillway|make|pipx|pip|git|python|kind"
_INDENTED: Final = re.compile(rf"^    (?=(?:{_PROGRAMS}) )", re.MULTILINE)
_COMMENT: Final = re.compile(r"\s{2,}#.*$|\s#\s.*$")
_VARIABLES: Final = re.compile(r"^(?:[A-Z_]+=\S+ )+")


class Kind(StrEnum):
    """Who runs a command."""

    SPILLWAY = "spillway"
    KUBECTL = "kubectl"
    HELM = "helm"
    MAKE = "make"
    PYTHON = "python"
    NOT_RUN = "not run"


#: By the first words of a command: why no test runs it.
NOT_RUN: Final = {
    "docker": "there is no Docker here; the image's steps run in tests/e2e/test_image.py",
    "kind": "needs Docker; the workflow kind.yaml runs the end-to-end tests there",
    "gcloud": "needs an account",
    "az": "needs an account",
    "eksctl": "needs an account",
    "helm repo": "reads a repository of somebody else's",
    "helm install gpu-operator": "somebody else's chart",
    "helm install monitoring": "somebody else's chart",
    "git": "the repository is not published yet",
    "pip": "the package is not published yet",
    "pipx": "asks an index for packages; tests/e2e/test_image.py installs the same wheel",
    "kubectl create secret": "a key of the reader's",
    "kubectl exec": "the rig's pods run nothing",
    "kubectl logs": "the rig's pods run nothing, so they have no log",
    "kubectl wait": "needs an operator; tests/e2e/test_modes.py pauses pools under one",
    "kubectl delete crd": "would take the rig's pools",
    "kubectl get nodes": "reads a label that only real nodes have",
    "kubectl patch configmap argocd-cm": "Argo CD's; a unit test reads the file",
    "kubectl --kubeconfig": "reads the demo's own cluster; tests/e2e/test_demo.py runs the demo",
    "source": "changes a shell",
    "helm test": "tests/e2e/test_install.py runs what its pod runs",
    "helm uninstall": "tests/e2e/test_install.py does it through Helm's library",
    "helm rollback": "tests/e2e/test_install.py does it through Helm's library",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page.

    Attributes:
        page: Where it stands, from the repository's root.
        text: One line, without prompt and comment.
    """

    page: str
    text: str

    @property
    def why_not(self) -> str | None:
        """Why no test runs it; None for one that is run."""
        return next((why for start, why in NOT_RUN.items() if starts(self.text, start)), None)

    @property
    def kind(self) -> Kind:
        """Who runs it.

        Raises:
            ValueError: Nobody knows the program.
        """
        if self.why_not is not None:
            return Kind.NOT_RUN
        bare = _VARIABLES.sub("", self.text)
        if "spillway " in bare.split("|")[0] and starts(bare, "kubectl spillway"):
            return Kind.SPILLWAY
        first = Path(bare.split()[0]).name
        if first == "kubectl" and "| spillway" in bare:
            return Kind.SPILLWAY
        return Kind(first)

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def starts(text: str, words: str) -> bool:
    """Whether a command begins with these words."""
    return text == words or text.startswith(f"{words} ")


def commands() -> list[Command]:
    """All of them, each page's in its order, parts of a line joined by && apart."""
    found = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for line in _lines(page.read_text(encoding="utf-8")):
            found += [Command(name, part.strip()) for part in line.split(" && ")]
    return found


def spillway_arguments(text: str) -> list[str]:
    """What the command line hands to spillway, up to a pipe or a redirection."""
    words = shlex.split(text)
    at = words.index("spillway")
    own = words[at + 1 :]
    return own[: min((own.index(end) for end in ("|", ">") if end in own), default=len(own))]


def _lines(text: str) -> list[str]:
    lines = []
    for language, block in _FENCE.findall(text):
        if language == "console":
            joined = re.sub(r"\\\n\s*>?\s*", "", block)
            shown = (line.strip() for line in joined.splitlines())
            lines += [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    outside = re.sub(r"\\\n\s*", "", _FENCE.sub("", text))
    lines += [line.strip() for line in outside.splitlines() if _INDENTED.match(line)]
    return [_COMMENT.sub("", line).strip() for line in lines]
