"""The documentation's site: what its builder is told. `make docs` builds it, links strict."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.docs_site import DOCS, ROOT, navigation, outward, table_of_contents

SOURCE = "https://github.com/spillway-dev/spillway"


def test_every_page_is_in_the_navigation_once() -> None:
    named = [DOCS / page for pages in navigation().values() for page in pages]
    pages = {page for page in DOCS.rglob("*.md") if page.name != "index.md"}
    assert len(named) == len(set(named))
    assert set(named) == pages
    assert all(f"\n{page.removesuffix('.md')}\n" in table_of_contents() for page in ["concepts.md"])


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("[a](../../Makefile)", f"[a]({SOURCE}/blob/main/Makefile)"),
        ("[a](../../tests/e2e)", f"[a]({SOURCE}/tree/main/tests/e2e)"),
        ("[a](../../README.md#more)", f"[a]({SOURCE}/blob/main/README.md#more)"),
        ("[a](demo.md#x)", "[a](demo.md#x)"),
        ("![a](../images/demo.png)", "![a](../images/demo.png)"),
        ("[a](https://example.com/x)", "[a](https://example.com/x)"),
        ("[a](../../no-such-file)", "[a](../../no-such-file)"),
        ("```\n[a](../../Makefile)\n```", "```\n[a](../../Makefile)\n```"),
    ],
)
def test_links_that_leave_the_site_lead_to_the_repository(text: str, becomes: str) -> None:
    assert outward(text, DOCS / "how-to" / "demo.md") == becomes


def test_the_site_has_what_its_lock_installs() -> None:
    wanted = (ROOT / "requirements/docs.in").read_text(encoding="utf-8").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    both = {*project["project"]["dependencies"], *project["dependency-groups"]["dev"]}
    names = {requirement.split(">=")[0] for requirement in wanted}
    # The site needs neither the operator nor its tools, so that a fix of a page installs little.
    assert names.isdisjoint({requirement.split(">=")[0] for requirement in both})


def test_style_and_icon_are_in_the_repository() -> None:
    text = Path(DOCS / "conf.py").read_text(encoding="utf-8")
    for name in ("images/icon.svg", "site.css"):
        assert name in text
    assert (DOCS / "images/icon.svg").is_file()
    assert (DOCS / "_static/site.css").is_file()
