"""Starting programs so that they are ready when one goes on and gone when one stops."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import requests

from tests.e2e.rig import guardian

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

#: Below Linux' range of ephemeral ports (32768 and up), so that no outgoing connection takes one of
#: ours between choosing it and listening on it.
_PORTS = range(12_000, 32_000)


class RigError(RuntimeError):
    """A part of the rig could not be started or did what it must not do."""


def free_ports(count: int) -> list[int]:
    """Different ports that nobody on this machine listens on.

    They are drawn at random, so that rigs that start at the same moment do not meet: two draws of
    ten among 20,000 share one in half a percent of the cases.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    msg = f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}"
    raise RigError(msg)


class Custody:
    """Owns what one rig starts: a temporary folder, and every process with its token.

    However this process ends, a guardian (see guardian.py) ends all of it.

    Attributes:
        directory: The folder; it is removed at the end.
        token: In the environment of every process that is ours.
    """

    def __init__(self) -> None:
        if not Path("/proc/self/environ").exists():
            msg = "the rig needs Linux: it finds its processes through /proc"
            raise RigError(msg)
        self.directory = Path(tempfile.mkdtemp(prefix="spillway-rig-"))
        self.token = secrets.token_hex(16)
        self._held: list[subprocess.Popen[bytes]] = []
        environment = {k: v for k, v in os.environ.items() if k != guardian.TOKEN_VARIABLE}
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, self.token, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
        atexit.register(self.close)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for a process that is to be ours."""
        return {**os.environ, **(extra or {}), guardian.TOKEN_VARIABLE: self.token}

    def popen(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, with its output appended to ``log``."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment(environment),
                cwd=cwd,
            )
        self._held.append(process)
        return process

    def at_end(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Have a command run at the end, before the processes go; the last one given runs first."""
        line = json.dumps({"argv": list(argv), "env": dict(environment or {})})
        assert self._guardian.stdin is not None
        self._guardian.stdin.write(line.encode() + b"\n")
        self._guardian.stdin.flush()

    def pids(self) -> list[int]:
        """Ids of the processes that are ours and live."""
        return guardian.processes(self.token)

    def reap(self) -> None:
        """Collect the exit codes of children that ended, so that no zombie looks alive."""
        for process in self._held:
            process.poll()

    def close(self) -> None:
        """End everything; returns when nothing is left. May be called again."""
        atexit.unregister(self.close)
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait()
        for process in self._held:
            process.wait()
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ManagedProcess:
    """A program that can be started, found ready, stopped, killed, paused and started again.

    Args:
        custody: Whose process it is.
        name: What messages call it; also the name of its log.
        command: Program and arguments.
        environment: Variables besides the inherited ones.
        ready_url: Answers with a status below 400 when the program is ready; None: ready at once.
    """

    def __init__(
        self,
        custody: Custody,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        ready_url: str | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = custody.directory / f"{name}.log"
        self.ready_url = ready_url
        self._custody = custody
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            RigError: It was never started.
        """
        if self._process is None:
            msg = f"{self.name} was not started"
            raise RigError(msg)
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code (negative: the signal that ended it); None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self, *, ready_timeout: float = 60.0) -> Self:
        """Start it, and return when it is ready.

        Raises:
            RigError: It ended, or was not ready in time; with the last lines of its log.
        """
        if self.alive:
            msg = f"{self.name} runs already (pid {self.pid})"
            raise RigError(msg)
        self._process = self._custody.popen(
            self.command, log=self.log, environment=self._environment
        )
        if self.ready_url is not None:
            self._wait_until_ready(self.ready_url, ready_timeout)
        return self

    def _wait_until_ready(self, url: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        seen = "no answer yet"
        while time.monotonic() < deadline:
            if not self.alive:
                msg = f"{self.name} ended with code {self.exit_code}; its log ends:\n{self.tail()}"
                raise RigError(msg)
            try:
                status = requests.get(url, timeout=2).status_code
            except requests.RequestException as error:
                seen = str(error)
            else:
                if status < 400:
                    return
                seen = f"HTTP {status}"
            time.sleep(0.05)
        self.kill()
        msg = (
            f"{self.name} was not ready at {url} within {timeout:g} s ({seen}); "
            f"its log ends:\n{self.tail()}"
        )
        raise RigError(msg)

    def stop(self, timeout: float = 15.0) -> int | None:
        """Ask it to end (SIGTERM), kill it when it does not; returns the exit code."""
        if self._process is None:
            return None
        self.resume()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        self.kill()
        return self.exit_code

    def kill(self) -> None:
        """End it and its children at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): to others it hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        """The last lines of its output."""
        if not self.log.exists():
            return "(no output)"
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(no output)"

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            # The group's id is the leader's, as it was started in a session of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
