"""One request and what became of it on a replica."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a request ended, as vLLM labels ``vllm:request_success_total``."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for.

    Attributes:
        id: Unique in a run.
        arrived_at: When it reached the router, seconds since the epoch.
        prompt_tokens: Length of the prompt, at least 1.
        output_tokens: Tokens that the answer will have, at least 1.
        cached_tokens: Prompt tokens that the prefix cache answers (vLLM's "hits"). At least one
            prompt token is always computed, so at most ``prompt_tokens - 1``.
        finish_reason: Why the answer ends at ``output_tokens``.
    """

    id: int
    arrived_at: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    finish_reason: FinishReason = FinishReason.STOP

    def __post_init__(self) -> None:
        """Refuse lengths that no engine could serve."""
        for name in ("prompt_tokens", "output_tokens"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 <= self.cached_tokens < self.prompt_tokens:
            msg = (
                f"cached_tokens must be from 0 to prompt_tokens - 1 = {self.prompt_tokens - 1}, "
                f"got {self.cached_tokens}"
            )
            raise ValueError(msg)


class Stream:
    """A request on a replica: its progress and its latencies.

    The replica writes it; everybody else reads.

    Attributes:
        request: What was asked for.
        submitted_at: When the replica got it; queueing counts from here.
        computed_tokens: Tokens whose keys and values are in the KV cache.
        generated_tokens: Output tokens sent so far.
        blocks: KV blocks held.
        first_token_at: When the first output token was sent.
        last_token_at: When the latest output token was sent.
        finished_at: When the last output token was sent; None while it runs, and for ever if lost.
        max_gap_seconds: Longest gap between two output tokens; 0 before the second token.
        preemptions: How often it lost its KV blocks and had to be computed again.
        order: Place in the batch: rises with each admission to it.
    """

    __slots__ = (
        "blocks",
        "computed_tokens",
        "finished_at",
        "first_token_at",
        "generated_tokens",
        "last_token_at",
        "max_gap_seconds",
        "order",
        "preemptions",
        "request",
        "submitted_at",
    )

    def __init__(self, request: Request, submitted_at: float) -> None:
        self.request = request
        self.submitted_at = submitted_at
        self.computed_tokens = 0
        self.generated_tokens = 0
        self.blocks = 0
        self.first_token_at: float | None = None
        self.last_token_at = submitted_at
        self.finished_at: float | None = None
        self.max_gap_seconds = 0.0
        self.preemptions = 0
        self.order = 0

    @property
    def pending_tokens(self) -> int:
        """Known tokens (prompt and output so far) that are still to be computed."""
        return self.request.prompt_tokens + self.generated_tokens - self.computed_tokens

    @property
    def ttft_seconds(self) -> float | None:
        """Time to first token, from arrival at the router."""
        if self.first_token_at is None:
            return None
        return self.first_token_at - self.request.arrived_at

    @property
    def tpot_seconds(self) -> float | None:
        """Mean time per output token after the first; None before the second token."""
        if self.first_token_at is None or self.generated_tokens < 2:
            return None
        return (self.last_token_at - self.first_token_at) / (self.generated_tokens - 1)
