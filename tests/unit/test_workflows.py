"""Workflows do what they say of the repository: files, versions, edits of a release."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.helm import render

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return found


def commands(path: Path) -> str:
    return "\n".join(
        step["run"] for job in jobs(path).values() for step in job.get("steps", ()) if "run" in step
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_end_keep_no_credentials_and_explain_what_they_may_write(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, job in jobs(path).items():
        assert "uses" in job or job.get("timeout-minutes"), name
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
    unexplained = re.findall(r"^\s+[a-z-]+: write$", text, re.MULTILINE)
    assert unexplained == []
    # A name that somebody else chose must not become a shell's text.
    assert not re.search(r"\$\{\{", commands(path))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"(?<![\w/.])((?:charts|crds|docs|manifests|operator|requirements|tests|tools)/[\w./-]+)",
        path.read_text(encoding="utf-8"),
    )
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/.")))] == []


def test_what_is_installed_on_kind_is_what_the_chart_has() -> None:
    text = commands(ROOT / ".github/workflows/kind.yaml")
    lines = [line for line in text.splitlines() if re.match(r"helm (install|upgrade) ", line)]
    assert len(lines) == 2
    objects: list[dict[str, Any]] = []
    for line in lines:
        chosen: dict[str, Any] = {}
        for path, value in re.findall(r"--set ([\w.]+)=(\S+)", line):
            name, key = path.split(".")
            chosen[name] = {key: yaml.safe_load(value)}
        texts = render(chosen).items()
        objects += [d for n, t in texts if n != "NOTES.txt" for d in yaml.safe_load_all(t) if d]
    there = {(d["kind"].lower(), d["metadata"]["name"]) for d in objects}
    assert ("cronjob", re.findall(r"--from cronjob/(\S+)", text)[0]) in there
    assert ("deployment", re.findall(r"exec .* deploy/(\S+)", text)[0]) in there
    assert ("validatingadmissionpolicy", "spillway-operator-marks") in there
    (built,) = re.findall(r"docker build -t (\S+)", text)
    images = {c["image"] for d in objects if d["kind"] == "Deployment"
              for c in d["spec"]["template"]["spec"]["containers"]}  # fmt: skip
    assert images == {built}


def test_a_release_changes_lines_that_are_there() -> None:
    text = commands(ROOT / ".github/workflows/release.yaml")
    assert "image: spillway:" in text
    install = (ROOT / "manifests/install.yaml").read_text(encoding="utf-8")
    assert re.search(r"image: spillway:.*", install)
    values = yaml.safe_load((ROOT / "charts/spillway/values.yaml").read_text(encoding="utf-8"))
    for name in re.findall(r"\.image\.(\w+) =", text):
        assert name in values["image"]


def test_a_release_has_an_image_with_sbom_and_provenance_a_chart_and_a_package() -> None:
    release = jobs(ROOT / ".github/workflows/release.yaml")
    assert set(release) == {"ci", "image", "chart", "package", "release"}
    (build,) = [s["with"] for s in release["image"]["steps"] if s.get("id") == "build"]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert build["sbom"] is True
    assert build["provenance"] == "mode=max"
    for job in ("image", "chart"):
        used = [step.get("uses", "") for step in release[job]["steps"]]
        assert any(use.startswith("actions/attest-build-provenance@") for use in used)
    # Nothing is published that the tests have not passed.
    assert {name for name, job in release.items() if "needs" not in job} == {"ci"}
