"""Clients of a gateway: real HTTP requests, as many and as long as a workload says."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from spillway.sim.workload import RateProfile, Workload
from tests.e2e.rig import chat
from tests.e2e.rig.emulator.settings import LatencyTargets
from tests.e2e.rig.emulator.stats import Attainment

if TYPE_CHECKING:
    from spillway.sim.request import Request
    from spillway.sim.workload import TokenMix

_LOOK_SECONDS: Final = 0.01
#: Far longer than any answer takes: what is not there by then is lost.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=300)
#: What is shown of requests that were lost.
_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request that was answered whole, as its client saw it.

    Attributes:
        sent_at: Seconds since the epoch.
        who: Who answered, by the gateway's word: ``local`` or a provider; "" without a gateway.
        ttft_seconds: From sending to the first byte of the answer's body.
        tpot_seconds: Mean time per token after that; None for an answer of one token.
    """

    sent_at: float
    who: str
    ttft_seconds: float
    tpot_seconds: float | None


@dataclass
class Clients:
    """Everybody who asks; they don't wait for each other.

    Attributes:
        url: Of the gateway.
        model: That they ask for.
        mix: How long their requests are.
        targets: What their latencies are measured against.
        sent: Requests so far.
        answered: Whole answers, by who gave them.
        lost: Requests without one.
        problems: What became of the first of these.
        prompt_tokens: Of answered requests.
        completion_tokens: Likewise.
        outcomes: Of all answered requests.
    """

    url: str
    model: str
    mix: TokenMix
    targets: LatencyTargets = field(default_factory=LatencyTargets)
    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    problems: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nobody asks yet."""
        self.attainment = Attainment(self.targets)
        self._workload = Workload(self.mix, RateProfile.constant(0.0), seed=1)
        self._open: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests that have been sent and not yet ended."""
        return self.sent - self.answered.total() - self.lost

    def counts(self, now: float) -> dict[str, Any]:
        """Everything that was counted so far; the last minute's attainment up to ``now``."""
        return {
            "arrivals_total": self.sent,
            "in_flight": self.in_flight,
            "answered_total": self.answered.total(),
            "lost_total": self.lost,
            "prompt_tokens_total": self.prompt_tokens,
            "completion_tokens_total": self.completion_tokens,
            "attainment": self.attainment.summary(now),
        }

    def set_rate(self, profile: RateProfile) -> None:
        """Ask so often from now on; its times are seconds since the epoch."""
        self._workload = Workload(self.mix, profile, self._workload.seed)

    async def run(self) -> None:
        """Ask until cancelled; what is under way then is given up."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            since = time.time()
            try:
                while True:
                    await asyncio.sleep(_LOOK_SECONDS)
                    now = time.time()
                    for request in self._workload.requests_between(since, now):
                        task = asyncio.create_task(self._ask(session, request))
                        self._open.add(task)
                        task.add_done_callback(self._open.discard)
                    since = now
            finally:
                for task in self._open:
                    task.cancel()
                await asyncio.gather(*self._open, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession, request: Request) -> None:
        lengths = chat.Lengths(request.prompt_tokens, request.output_tokens, request.cached_tokens)
        body = chat.body_of(self.model, lengths)
        self.sent += 1
        sent_at = time.time()
        try:
            async with session.post(self.url + chat.PATH, json=body) as answer:
                outcome = await self._read(answer, lengths, sent_at)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.lost += 1
            self.attainment.record(time.time(), None, None)
            if len(self.problems) < _PROBLEMS:
                self.problems.append(f"after {time.time() - sent_at:.1f} s: {error!r}")
            return
        self.outcomes.append(outcome)
        self.answered[outcome.who] += 1
        self.prompt_tokens += lengths.prompt
        self.completion_tokens += lengths.output
        self.attainment.record(time.time(), outcome.ttft_seconds, outcome.tpot_seconds)

    @staticmethod
    async def _read(
        answer: aiohttp.ClientResponse, lengths: chat.Lengths, sent_at: float
    ) -> Outcome:
        first_at, parts = 0.0, []
        async for part in answer.content.iter_any():
            first_at = first_at or time.time()
            parts.append(part)
        ended_at, text = time.time(), b"".join(parts)
        if answer.status != 200:
            msg = f"status {answer.status}: {text[:200]!r}"
            raise ValueError(msg)
        # All but the last event, which has the usage, are tokens.
        tokens = text.count(chat.EVENT_BEGINS) - 1
        usage = _usage(text)
        if not tokens == usage["completion_tokens"] == lengths.output:
            msg = f"{tokens} tokens of {lengths.output}, usage {usage}"
            raise ValueError(msg)
        between = (ended_at - first_at) / (tokens - 1) if tokens > 1 else None
        who = answer.headers.get("x-spillway-served-by", "")
        return Outcome(sent_at, who, first_at - sent_at, between)


def _usage(text: bytes) -> dict[str, Any]:
    """Of a stream's last event but ``[DONE]``.

    Raises:
        ValueError: The stream has no such end.
    """
    events = text.rstrip().rsplit(b"data: ", 2)
    if len(events) < 3 or events[2] != b"[DONE]":
        msg = f"a stream that ends with {text[-100:]!r}"
        raise ValueError(msg)
    found: dict[str, Any] = json.loads(events[1])["usage"]
    return found
