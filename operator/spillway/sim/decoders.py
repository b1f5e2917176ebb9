"""The sequences of a batch that decode, moved a token a step without a look at each of them.

All of them gain one token in a step, so their number, the context that they hold together, the step
at which each will end and how many need a new KV block in a step are all there is to know. What a
single one has done is worked out when it ends or leaves the batch. That makes a step's cost
independent of the size of the batch.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from spillway.sim.profiles import BLOCK_TOKENS

if TYPE_CHECKING:
    from spillway.sim.request import Stream


class Decoders:
    """Streams that get one token in every step.

    Attributes:
        count: How many there are.
        context_tokens: Tokens that they hold in the KV cache together.
        token_at: When they all got their latest token.
    """

    def __init__(self) -> None:
        self.count = 0
        self.context_tokens = 0
        self.token_at = 0.0
        self._step = 0
        # (step of the last token, order in the batch, stream, step at which it joined)
        self._ends: list[tuple[int, int, Stream, int]] = []
        # By the step, modulo a block, before which a stream needs a new one.
        self._block_due = [0] * BLOCK_TOKENS
        # Gaps that no later one has exceeded: steps ascending, gaps falling.
        self._gap_steps: list[int] = []
        self._gaps: list[float] = []

    @property
    def blocks_due(self) -> int:
        """KV blocks that the next step needs for them."""
        return self._block_due[-self._step % BLOCK_TOKENS]

    def takes(self, stream: Stream) -> bool:
        """Whether a stream is in step with the others: one token to compute, the last just sent."""
        return (
            stream.generated_tokens > 0
            and stream.pending_tokens == 1
            and (not self.count or stream.last_token_at == self.token_at)
        )

    def add(self, stream: Stream, order: int) -> None:
        """Take a stream in; ``order`` is its place in the batch."""
        if not self.count:
            self.token_at = stream.last_token_at
            self._gap_steps.clear()
            self._gaps.clear()
        rest = stream.request.output_tokens - stream.generated_tokens
        heappush(self._ends, (self._step + rest, order, stream, self._step))
        self._block_due[(stream.computed_tokens - self._step) % BLOCK_TOKENS] += 1
        self.count += 1
        self.context_tokens += stream.computed_tokens

    def step(self, now: float) -> tuple[float, list[Stream]]:
        """End a step at ``now``: the gap since their last tokens, and who has ended, in order."""
        gap = now - self.token_at
        self.token_at = now
        self._step += 1
        self.context_tokens += self.count
        steps, gaps = self._gap_steps, self._gaps
        while gaps and gaps[-1] <= gap:
            steps.pop()
            gaps.pop()
        steps.append(self._step)
        gaps.append(gap)
        ended: list[Stream] = []
        ends = self._ends
        while ends and ends[0][0] == self._step:
            _, _, stream, joined = heappop(ends)
            self._settle(stream, joined)
            ended.append(stream)
        return gap, ended

    def release(self) -> None:
        """Let all go, each brought up to date."""
        for _, _, stream, joined in self._ends:
            self._settle(stream, joined)
        self._ends.clear()

    def _settle(self, stream: Stream, joined: int) -> None:
        """Bring a stream up to date and take it out of the sums."""
        self._block_due[(stream.computed_tokens - joined) % BLOCK_TOKENS] -= 1
        tokens = self._step - joined
        if tokens:
            stream.computed_tokens += tokens
            stream.generated_tokens += tokens
            stream.last_token_at = self.token_at
            # Gaps fall, so the first one after it joined is the longest since.
            longest = self._gaps[bisect_right(self._gap_steps, joined)]
            stream.max_gap_seconds = max(stream.max_gap_seconds, longest)
            stream.blocks = -(-stream.computed_tokens // BLOCK_TOKENS)
        self.count -= 1
        self.context_tokens -= stream.computed_tokens
