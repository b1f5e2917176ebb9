"""A replica's steps in constant time each, where the KV cache never fills.

The same scheduler as `spillway.sim.replica.Replica`, step for step, for the question how long
requests take and nothing else: all sequences that decode gain one token in a step, so it is enough
to know how many there are, how much context they hold together and at which step each will end. A
test holds both to the same times. It exists because a table of capacities takes some ten million
steps, and a loop over the batch in each of them would take hours.

Not modelled: metrics, a full KV cache and the preemptions that follow from it.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spillway.sim.profiles import ReplicaProfile
    from spillway.sim.request import Request


class Times(NamedTuple):
    """How long a request took.

    Attributes:
        request: Which one.
        ttft: Seconds from arrival to the first token.
        tpot: Mean seconds per output token after the first; 0 for an answer of one token.
        ended_at: When its last token was sent.
    """

    request: Request
    ttft: float
    tpot: float
    ended_at: float


class Stepper:
    """One replica. Time moves only by `advance`, and only forwards."""

    def __init__(self, profile: ReplicaProfile) -> None:
        """Start idle at time 0."""
        self.profile = profile
        self.in_flight = 0
        self._waiting: deque[Request] = deque()
        self._clock = 0.0
        # The step under way: (request, chunk, last chunk?) of each prompt in it; 0 when idle.
        self._ends_at = 0.0
        self._chunks: list[tuple[Request, bool]] = []
        # The one prompt that did not fit into a step, and its tokens computed so far.
        self._partial: Request | None = None
        self._computed = 0
        self._step = 0
        self._decoding = 0
        self._context = 0
        # (last step, tie-breaker, request, time of its first token)
        self._ends: list[tuple[int, int, Request, float]] = []
        self._started = 0

    def submit(self, request: Request) -> None:
        """Queue a request that arrives now, at the moment of the last `advance`."""
        self._waiting.append(request)
        self.in_flight += 1

    def advance(self, until: float) -> list[Times]:
        """Run to ``until``; returns the requests that ended meanwhile."""
        ended: list[Times] = []
        while True:
            if not self._ends_at and (until <= self._clock or not self._begin()):
                break
            if self._ends_at > until:
                break
            self._clock = self._ends_at
            self._end(ended)
        self._clock = until
        return ended

    def _begin(self) -> bool:
        """Schedule a step; False when there is nothing to do."""
        profile, waiting = self.profile, self._waiting
        budget = profile.max_num_batched_tokens - self._decoding
        sequences = self._decoding
        prefill, pairs = 0, 0.0
        chunks = self._chunks
        while budget > 0:
            if self._partial is None:
                if not waiting or sequences >= profile.max_num_seqs:
                    break
                self._partial = waiting.popleft()
                self._computed = self._partial.cached_tokens
            held = self._computed
            tokens = min(budget, self._partial.prompt_tokens - held)
            prefill += tokens
            # Each of the chunk's queries sees what is held and, causally, half of the chunk.
            pairs += tokens * (held + tokens / 2)
            budget -= tokens
            sequences += 1
            self._computed = held + tokens
            if self._computed < self._partial.prompt_tokens:
                chunks.append((self._partial, False))
                break
            chunks.append((self._partial, True))
            self._partial = None
        if not sequences:
            return False
        self._ends_at = self._clock + (
            profile.base_seconds
            + profile.per_sequence_seconds * sequences
            + profile.per_context_token_seconds * self._context
            + profile.per_prefill_token_seconds * prefill
            + profile.per_attention_pair_seconds * pairs
        )
        return True

    def _end(self, ended: list[Times]) -> None:
        """Count the step's tokens at the present clock and let finished requests go."""
        now = self._clock
        self._ends_at = 0.0
        self._step += 1
        self._context += self._decoding
        ends = self._ends
        while ends and ends[0][0] == self._step:
            _, _, request, first = heappop(ends)
            self._decoding -= 1
            self._context -= request.prompt_tokens + request.output_tokens - 1
            self._leave(ended, request, first, now)
        for request, last in self._chunks:
            if not last:
                continue
            if request.output_tokens == 1:
                self._leave(ended, request, now, now)
                continue
            self._decoding += 1
            self._context += request.prompt_tokens
            self._started += 1
            last_step = self._step + request.output_tokens - 1
            heappush(ends, (last_step, self._started, request, now))
        self._chunks.clear()

    def _leave(self, ended: list[Times], request: Request, first: float, now: float) -> None:
        self.in_flight -= 1
        gaps = max(1, request.output_tokens - 1)
        ended.append(Times(request, first - request.arrived_at, (now - first) / gaps, now))
