"""The repository around the code says what is so: links, references, locks, CI."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from spillway.api.reasons import ConditionType, Reason
from tools import gen_reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def package_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match.group().lower().replace("_", "-")


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert not broken


def test_design_records_and_pages_that_the_code_names_exist() -> None:
    named = {
        name
        for source in (ROOT / "operator").rglob("*.py")
        for name in re.findall(r"docs/[\w./-]+\.md", source.read_text(encoding="utf-8"))
    }
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_page_can_be_found_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in LINK.findall(index.read_text(encoding="utf-8"))
    }
    pages = set((ROOT / "docs").rglob("*.md")) - {index}
    assert pages - linked == set()


@pytest.mark.parametrize("path", gen_reference.render(), ids=lambda path: path.name)
def test_reference_pages_are_those_of_the_code(path: Path) -> None:
    assert path.is_file(), "run make reference"
    current = path.read_text(encoding="utf-8") == gen_reference.render()[path]
    assert current, f"{path.name} is stale: run make reference"


@pytest.mark.parametrize("class_name", ["ConditionType", "Reason"])
def test_every_condition_and_reason_says_what_it_means(class_name: str) -> None:
    source = (gen_reference.PACKAGE / "api" / "reasons.py").read_text(encoding="utf-8")
    members = gen_reference.enum_members(source, class_name)
    assert [member.name for member in members if not member.description] == []


def test_conditions_page_and_troubleshooting_name_every_condition_and_reason() -> None:
    values = {*(c.value for c in ConditionType), *(r.value for r in Reason)}
    reference = (ROOT / "docs/reference/conditions.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    assert {value for value in values if f"`{value}`" not in reference} == set()
    assert {value for value in values if not re.search(rf"\b{value}\b", guide)} == set()
    assert {c.value for c in ConditionType if f"\n## {c.value}\n" not in guide} == set()


def test_enum_members_reads_groups_values_and_descriptions() -> None:
    source = '''
class Colour(StrEnum):
    """Colours."""

    # Warm ones.
    RED = "red"
    """Like a
    tomato."""
    ORANGE = "orange"
    # Cold ones.
    BLUE = "blue"
    """Like the sea."""
'''
    members = gen_reference.enum_members(source, "Colour")
    assert [(m.value, m.description, m.group) for m in members] == [
        ("red", "Like a tomato.", "Warm ones"),
        ("orange", "", "Warm ones"),
        ("blue", "Like the sea.", "Cold ones"),
    ]
    with pytest.raises(LookupError, match="no class Shape"):
        gen_reference.enum_members(source, "Shape")


def test_a_stale_reference_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "exit-codes.md"
    monkeypatch.setattr(gen_reference, "ROOT", tmp_path)
    monkeypatch.setattr(gen_reference, "render", lambda: {page: "# New\n"})
    assert gen_reference.main(["--check"]) == 1
    assert "docs/exit-codes.md is stale" in capsys.readouterr().err
    assert gen_reference.main([]) == 0
    assert gen_reference.main(["--check"]) == 0


def test_every_dependency_has_a_reason() -> None:
    project = pyproject()
    wanted = {
        package_name(requirement)
        for requirement in [
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["sim"],
            *project["dependency-groups"]["dev"],
            *(ROOT / "requirements/docs.in").read_text(encoding="utf-8").split(),
        ]
    }
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, -]+) \| \S", page, re.MULTILINE)
    explained = {name.strip().lower() for row in rows for name in row.split(",")}
    assert wanted - explained == set()
    assert explained - wanted == {"package", "---"}


@pytest.mark.parametrize("lock", ["runtime", "dev", "build", "docs"])
def test_every_locked_package_has_a_hash(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])
    assert entries
    assert [e.split("==")[0] for e in entries if "==" not in e or "--hash=sha256:" not in e] == []


def test_locks_hold_every_direct_dependency() -> None:
    project = pyproject()
    for lock, requirements in (
        ("runtime", project["project"]["dependencies"]),
        ("dev", project["dependency-groups"]["dev"]),
        ("build", project["build-system"]["requires"]),
    ):
        text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
        locked = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
        assert {package_name(requirement) for requirement in requirements} - locked == set(), lock


def test_ci_script_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    named: set[str] = set()
    for path in (ROOT / ".github/workflows").glob("*.yaml"):
        named |= set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", path.read_text(encoding="utf-8")))
    named |= set(re.findall(r"^step ([a-z-]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    for page in PAGES:
        commands = re.findall(r"(?:`|\$ )make ([a-z0-9 -]+)", page.read_text(encoding="utf-8"))
        named |= {word for command in commands for word in command.split("#")[0].split()}
    assert named - targets == set()


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob(".github/**/*.y*ml"), ROOT / ".pre-commit-config.yaml"],
    ids=lambda path: path.name,
)
def test_configuration_is_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_workflows_ask_for_no_more_than_reading_by_default() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yaml"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, path.name
