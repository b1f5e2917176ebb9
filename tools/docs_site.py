"""What the site's builder is told beside docs/conf.py: the order of the pages, links out of docs/.

It runs in the environment of requirements/docs.txt, which has neither spillway nor pydantic.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
_SOURCE: Final = "https://github.com/spillway-dev/spillway"
_LINK: Final = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
#: Parts of the navigation by folder, in their order.
_SECTIONS: Final = {
    "quick-start": "Quick start",
    "concepts": "Concepts",
    "how-to": "How-to",
    "reference": "Reference",
    "benchmarks": "Benchmarks",
    "design": "Design",
    "": "Project",
}
_FOLDER_OF: Final = {"concepts.md": "concepts", "benchmarks.md": "benchmarks"}


def navigation() -> dict[str, list[str]]:
    """Pages by the title of their section, in the order in which docs/index.md names them."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {folder: [] for folder in _SECTIONS}
    for path in dict.fromkeys(path for _, path, _ in _LINK.findall(text)):
        if path.endswith(".md") and (DOCS / path).resolve().is_relative_to(DOCS):
            folder = path.partition("/")[0]
            found[_FOLDER_OF.get(path, folder if folder in _SECTIONS else "")].append(path)
    return {_SECTIONS[folder]: pages for folder, pages in found.items() if pages}


def table_of_contents() -> str:
    """The navigation as MyST's directives, hidden on the page itself."""
    parts = []
    for title, pages in navigation().items():
        names = "\n".join(page.removesuffix(".md") for page in pages)
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```\n")
    return "".join(parts)


def outward(markdown: str, source: Path) -> str:
    """The text of a page with links to files outside of docs/ made absolute; code stays.

    Args:
        markdown: The page.
        source: Its file.
    """

    def turned(match: re.Match[str]) -> str:
        before, path, anchor = match.groups()
        target = (source.parent / path).resolve()
        if re.match(r"[a-z]+:", path) or target.is_relative_to(DOCS) or not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{before}{_SOURCE}/{kind}/main/{target.relative_to(ROOT)}{anchor or ''})"

    parts = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(turned, markdown[end:])])
