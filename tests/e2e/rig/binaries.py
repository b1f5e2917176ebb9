"""Gets the rig's programs: from PATH, Debian or a Python wheel, else built from Go modules, once.

The cache key of a program that is built is the hash of everything that decides its bytes: the
module set (``go.mod``, ``go.sum``, ``tools.go``), the Go version, the platform and the flags. A
changed pin therefore builds anew and an unchanged one never does, however often the tests run.

    python -m tests.e2e.rig.binaries          # get what is missing, print where it lies
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.e2e.rig import debian, environments, wheels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

MODULES = Path(__file__).resolve().parent.parent / "controlplane"
REPOSITORY = Path(__file__).resolve().parents[3]
KUBERNETES_VERSION = "v1.36.3"
_K8S_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (
        ("gitVersion", KUBERNETES_VERSION),
        ("gitMajor", "1"),
        ("gitMinor", "36"),
    )
)


class BuildError(RuntimeError):
    """A program could not be built; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Program:
    """One program of the rig.

    Attributes:
        name: What it is called on disk.
        module_set: The folder under ``tests/e2e/controlplane`` whose go.mod pins it.
        package: The Go package that is built.
        ldflags: Extra linker flags.
        accept: One from PATH or Debian will do as well when this pattern is found in what it says
            of its version.
        version_args: What makes it say its version.
        debian: The Debian package that has it.
        wheel: The file of the Python wheel that has it, instead of Go modules; the module set has
            a requirements.txt then.
        environment: A requirements file of the repository: a Python environment of its own, and the
            program is its interpreter.
        minutes: Rough build time on two cores, shown while one waits.
    """

    name: str
    module_set: str
    package: str
    accept: str
    ldflags: str = ""
    version_args: tuple[str, ...] = ("--version",)
    debian: str | None = None
    wheel: str | None = None
    environment: str | None = None
    minutes: float = 1.0


def _kubernetes(name: str, minutes: float) -> Program:
    return Program(
        name,
        "kubernetes",
        f"k8s.io/kubernetes/cmd/{name}",
        accept=rf"^Kubernetes {re.escape(KUBERNETES_VERSION)}$",
        ldflags=_K8S_VERSION_FLAGS,
        minutes=minutes,
    )


#: In the order in which they are built: the first of a module set compiles what the others share.
PROGRAMS = (
    Program(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        # 2.40 is the first with native staleness rules the tests lean on; Debian 12 has 2.42.
        accept=r"prometheus, version (2\.(4[0-9]|5[0-9])|3)\.",
        debian="prometheus",
        minutes=4.0,
    ),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", accept=r"Version: 3\.6\.", minutes=0.4),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", accept=r"version v0\.8\.", minutes=1.5),
    Program(
        "kwokctl", "kwok", "sigs.k8s.io/kwok/cmd/kwokctl", accept=r"version v0\.8\.", minutes=0.3
    ),
    Program(
        "envoy",
        "envoy",
        "",
        accept=r"version: [0-9a-f]+/1\.40\.",
        wheel="envoy/_bin/envoy",
        minutes=0.3,
    ),
    # Says no version when it is built from a module alone.
    Program(
        "contour",
        "contour",
        "github.com/projectcontour/contour/cmd/contour",
        accept=r"^Version: v1\.33\.",
        version_args=("version",),
        minutes=2.0,
    ),
    # Its dependencies are not Spillway's, and some contradict them.
    Program(
        "litellm-python",
        "",
        "",
        accept=r"$^",
        environment="requirements/litellm.txt",
        minutes=2.0,
    ),
    _kubernetes("kube-apiserver", 3.2),
    _kubernetes("kube-controller-manager", 0.7),
    _kubernetes("kube-scheduler", 0.3),
    Program(
        "kubectl",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kubectl",
        # kubectl may be one minor version older or newer than the server.
        accept=r"^Client Version: v1\.3[567]\.",
        ldflags=_K8S_VERSION_FLAGS,
        version_args=("version", "--client"),
        minutes=0.3,
    ),
)
#: All that is needed beside a cluster that runs elsewhere.
REMOTE = ("prometheus", "kwok", "kubectl")


def cache_root() -> Path:
    """The folder that keeps programs between runs (``SPILLWAY_RIG_CACHE`` moves it)."""
    override = os.environ.get("SPILLWAY_RIG_CACHE")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spillway-rig"


@functools.cache
def _go() -> tuple[str, str]:
    """Path and version string of the Go toolchain."""
    go = shutil.which("go")
    if go is None:
        msg = (
            "Go is not on PATH; the local control plane is built from Go modules. Install Go "
            "1.26 or newer (https://go.dev/dl), or use an existing cluster: "
            "make demo CLUSTER=kind, or make demo CLUSTER=current"
        )
        raise BuildError(msg)
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    return go, version.strip()


def _key(program: Program) -> str:
    digest = hashlib.sha256()
    if program.wheel:
        digest.update((MODULES / program.module_set / "requirements.txt").read_bytes())
        digest.update(f"{platform.machine()}\0{program.wheel}".encode())
        return digest.hexdigest()[:16]
    if program.environment:
        digest.update((REPOSITORY / program.environment).read_bytes())
        digest.update(f"{platform.machine()}\0{sys.version_info[:2]}".encode())
        return digest.hexdigest()[:16]
    for name in ("go.mod", "go.sum", "tools.go"):
        digest.update((MODULES / program.module_set / name).read_bytes())
    digest.update("\0".join((_go()[1], program.package, program.ldflags)).encode())
    return digest.hexdigest()[:16]


def _fits(program: Program, path: Path) -> bool:
    """Whether a program that was not built here says a version that will do."""
    command = [str(path), *program.version_args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return bool(re.search(program.accept, done.stdout + done.stderr, re.MULTILINE))


def _from_path(program: Program) -> Path | None:
    """A program on PATH in a version that will do."""
    found = shutil.which(program.name)
    return Path(found) if found and _fits(program, Path(found)) else None


def _from_debian(program: Program) -> Path:
    """Where a program from Debian's package is kept; the release decides the version."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    version = release.get("VERSION_CODENAME", "unknown")
    return cache_root() / f"{program.name}-debian-{version}" / program.name


def _build(program: Program, target: Path) -> None:
    """Build into a temporary name, then rename: a killed build leaves no half program behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as handle:
        partial = Path(handle.name)
    command = [
        _go()[0], "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
        "-ldflags", f"-s -w {program.ldflags}".strip(), "-o", str(partial), program.package,
    ]  # fmt: skip
    try:
        code, said = _run_group(
            command,
            cwd=MODULES / program.module_set,
            environment={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
        )
        if code:
            msg = f"building {program.name} failed:\n{said[-3000:]}"
            raise BuildError(msg)
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _run_group(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Exit code and standard error of a command; an interruption ends its children too."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, said


def _built(program: Program) -> Path:
    """Where a program that was built here is kept."""
    return cache_root() / f"{program.name}-{_key(program)}" / program.name


def _at_hand(program: Program) -> Path | None:
    """A program that needs no waiting: on PATH, or in the cache."""
    on_path = _from_path(program)
    if on_path is not None:
        return on_path
    if program.debian and _from_debian(program).exists():
        return _from_debian(program)
    # Without Go there is no key to look for, and what is missing is said when it must be built.
    if (program.wheel or program.environment or shutil.which("go")) and _built(program).exists():
        return _built(program)
    return None


@contextmanager
def _alone(program: Program) -> Iterator[None]:
    """One process at a time gets a program: a second one waits, and finds it in the cache."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / f"{program.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _obtain(program: Program) -> Path:
    with _alone(program):
        return _at_hand(program) or _get(program)


def _get(program: Program) -> Path:
    if program.debian and debian.available():
        target = _from_debian(program)
        if debian.take(program.debian, program.name, target):
            if _fits(program, target):
                return target
            target.unlink()
    if program.wheel:
        pins = MODULES / program.module_set / "requirements.txt"
        try:
            wheels.take(pins, program.wheel, _built(program))
        except wheels.WheelError as error:
            msg = f"getting {program.name} failed: {error}"
            raise BuildError(msg) from error
        return _built(program)
    if program.environment:
        try:
            environments.make(REPOSITORY / program.environment, _built(program))
        except environments.EnvironmentsError as error:
            msg = f"getting {program.name} failed: {error}"
            raise BuildError(msg) from error
        return _built(program)
    _build(program, _built(program))
    return _built(program)


def ensure(
    console: Console | None = None, *, names: Collection[str] | None = None
) -> dict[str, Path]:
    """Return the path of each program, getting or building what is not at hand.

    Args:
        console: Where progress is shown.
        names: The programs that are wanted; None is all.

    Raises:
        BuildError: Go is missing, or a build failed (with the compiler's words).
    """
    console = console or Console(stderr=True)
    found: dict[str, Path] = {}
    missing: list[Program] = []
    for program in PROGRAMS:
        if names is not None and program.name not in names:
            continue
        path = _at_hand(program)
        if path is None:
            missing.append(program)
        else:
            found[program.name] = path
    left = sum(program.minutes for program in missing)
    for number, program in enumerate(missing, 1):
        started = time.monotonic()
        count = f"[{number}/{len(missing)}]"
        with console.status(
            f"{count} getting {program.name}, about {left:.0f} min to go in all (once; cached)"
        ):
            found[program.name] = _obtain(program)
        left -= program.minutes
        console.print(
            f"{count} got {program.name} in {time.monotonic() - started:.0f} s",
            highlight=False,
            markup=False,
        )
    return found


def main() -> int:
    """Build and list; the exit code is 1 when a program could not be built."""
    console = Console(stderr=True)
    try:
        for name, path in ensure(console).items():
            print(f"{name}\t{path}")  # noqa: T201 - this is the command's output
    except BuildError as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
