"""What the Dockerfile installs, without Docker: the wheel, its programs and the health check.

The steps of its last stage but the pull of the base image: the wheel is built and installed offline
into an environment of its own that has no pip, and run from there as the image would run it. The
packages of the lock come from this environment, which has the same versions (a test compares); a
workflow builds the image itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import spillway

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as the Dockerfile builds it, of no more than what it copies."""
    assert "hatchling build -t wheel" in DOCKERFILE
    source, folder = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "operator"):
        assert name in DOCKERFILE
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the image, its programs in ``bin``."""
    home = tmp_path_factory.mktemp("opt") / "spillway"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = str(home / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    # Behind the wheel's own folder, so that the checkout can't stand in for it.
    (packages / "of-the-lock.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home


def run(home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the image as nobody that has a name or a home."""
    return subprocess.run(
        [str(home / "bin" / command[0]), *command[1:]],
        cwd="/", env={"PATH": str(home / "bin"), "USER": "spillway", **environment},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_wheel_has_the_package_alone_and_is_the_same_every_time(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"spillway", f"spillway-{spillway.__version__}.dist-info"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (again,) = tmp_path.glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()


def test_the_entry_point_runs_from_the_installed_wheel(installed: Path) -> None:
    where = run(installed, "python", "-c", "import spillway; print(spillway.__file__)")
    assert where.stdout.startswith(str(installed))
    assert 'ENTRYPOINT ["spillway"]' in DOCKERFILE
    done = run(installed, "spillway", "crd")
    assert done.stdout == (ROOT / "crds/spillway.dev_inferencepools.yaml").read_text()
    # As the container starts without a cluster: one line that says what is missing.
    refused = run(installed, "spillway", "run")
    assert refused.returncode == 2
    assert "no cluster is configured" in refused.stderr
    assert sorted(p.name for p in (installed / "bin").glob("*spillway*")) == [
        "kubectl-spillway",
        "kubectl_complete-spillway",
        "spillway",
    ]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_asks_the_operator_on_its_port(
    installed: Path, status: int | None, *, healthy: bool
) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" and status else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", DOCKERFILE)
    assert found
    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    if status is None:
        server.shutdown()
        server.server_close()
    done = run(installed, *json.loads(found[1]), SPILLWAY_HTTP_PORT=str(port))
    if status is not None:
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) is healthy


def test_this_environment_has_what_the_image_installs() -> None:
    def pinned(lock: str) -> dict[str, str]:
        text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))

    runtime, dev = pinned("runtime"), pinned("dev")
    assert runtime
    assert {name: version for name, version in runtime.items() if dev.get(name) != version} == {}


def test_the_image_writes_nothing_outside_of_tmp() -> None:
    assert "PYTHONDONTWRITEBYTECODE=1" in DOCKERFILE
    assert "WORKDIR /tmp" in DOCKERFILE
    assert os.path.lexists(ROOT / ".dockerignore")
