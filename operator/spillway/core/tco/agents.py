"""What tasks cost whose requests send their context again: agent chains, and RAG.

Call i of a chain (from 0) sends the base prompt and all that the earlier calls have added, so the
prompt tokens of n calls grow with the square of n:

    n P + (O + T) n (n - 1) / 2

with P the base prompt, O the answer of a call and T what a tool returns after it. A prefix cache
answers what the call before has already read or written; a call then computes its tool's output
alone, P for the first. Caches forget: a share of the hits is missed.

Computing is more than tokens. Each token of a prompt attends to all before it, so the attention
part of a prefill grows with the square of the prompt (4,096 tokens cost 16 times what 1,024 do);
the rest, which is most of it up to some ten thousand tokens, grows in proportion. `prefill_work`
has both parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.tco.load import require
from spillway.core.tco.rightsizing import PRECISIONS, Work, options
from spillway.core.tokenmix import TokenMix
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.inferencepool import Latency
    from spillway.core.profiles import ModelShape
    from spillway.core.tco.costs import ApiTerms
    from spillway.core.tco.rightsizing import Offer


@dataclass(frozen=True, slots=True)
class Chain:
    """A task of several model calls.

    Attributes:
        calls: Model calls a task; 15 to 30 are usual for agents.
        base_tokens: System prompt, tools and the task itself.
        output_tokens: Answer of a call.
        tool_tokens: What a tool returns between two calls.
        hit_share: Share of what a prefix cache could answer that it does answer, 0 to 1.
    """

    calls: int
    base_tokens: float
    output_tokens: float
    tool_tokens: float
    hit_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse chains that can't be.

        Raises:
            NotPlannableError: Naming the figure.
        """
        require("calls a task", self.calls, least=1, most=100_000)
        require("tokens of the base prompt", self.base_tokens, above=0)
        require("output tokens of a call", self.output_tokens, least=1)
        require("tokens of a tool's result", self.tool_tokens, least=0)
        require("the share of prefix hits", self.hit_share, least=0, most=1)

    @property
    def prompt_tokens(self) -> float:
        """Prompt tokens of the whole task."""
        grown = (self.output_tokens + self.tool_tokens) * self.calls * (self.calls - 1) / 2
        return self.calls * self.base_tokens + grown

    @property
    def new_tokens(self) -> float:
        """Of these, tokens that no call before has read or written."""
        return self.base_tokens + self.tool_tokens * (self.calls - 1)

    @property
    def cached_tokens(self) -> float:
        """Of these, tokens that the prefix cache answers."""
        return self.hit_share * (self.prompt_tokens - self.new_tokens)

    def mix(self, *, cached: bool) -> TokenMix:
        """The mean call of the task."""
        return TokenMix(
            prompt_tokens=self.prompt_tokens / self.calls,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens / self.calls if cached else 0.0,
        )

    def usd(self, api: ApiTerms, *, cached: bool) -> float:
        """What the task costs at the API."""
        return self.calls * api.usd_per_request(self.mix(cached=cached))


def own_usd(
    chain: Chain, shape: ModelShape, offer: Offer, latency: Latency, *, cached: bool
) -> float | None:
    """What the task costs on own GPUs that are full; None where they can't serve it in time.

    The replica is the cheapest of 16-bit weights that `spillway.core.tco.rightsizing` finds, from
    the built-in table: for comparing.

    Args:
        chain: The task.
        shape: The model.
        offer: The GPU.
        latency: The promise that each call is held to.
        cached: Whether the engine's prefix cache answers what earlier calls have read or written.
    """
    last = chain.base_tokens + (chain.output_tokens + chain.tool_tokens) * chain.calls
    mix = chain.mix(cached=cached)
    found = options(Work(shape, mix, latency, last), [offer])
    best = next((o for o in found if o.precision == PRECISIONS[0].name), None)
    if best is None or best.usd_per_million is None:
        return None
    return best.usd_per_million * chain.calls * (mix.prompt_tokens + mix.output_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class PrefillWork:
    """Work of a prefill in units of a token's linear part.

    Attributes:
        linear: What grows in proportion to the prompt.
        attention: What grows with its square.
    """

    linear: float
    attention: float

    @property
    def attention_share(self) -> float:
        """Share of the work that attention is."""
        return self.attention / (self.linear + self.attention)


def prefill_work(tokens: float, tokens_per_pair: float) -> PrefillWork:
    """Work of a prompt that is computed as a whole.

    Args:
        tokens: Of the prompt.
        tokens_per_pair: Cost of a (query, key) pair over that of a token's linear part; of a model,
            `spillway.core.profiles.ModelShape.tokens_per_pair`. A causal prompt has half of the
            square of its tokens as pairs.
    """
    return PrefillWork(tokens, tokens_per_pair * tokens * tokens / 2)


@dataclass(frozen=True, slots=True)
class Rag:
    """Retrieval-augmented answers.

    Attributes:
        retrieved_tokens: Prompt tokens of a request.
        output_tokens: Answer.
        shared_tokens: Of the prompt, the part that all requests share (the system prompt).
        semantic_hit_share: Share of the requests that a semantic cache answers; 15 to 25 % are
            reported for RAG, 40 to 60 % for FAQ.
        lookup_usd: What a look-up in it costs (an embedding).
    """

    retrieved_tokens: float = 5000.0
    output_tokens: float = 100.0
    shared_tokens: float = 0.0
    semantic_hit_share: float = 0.0
    lookup_usd: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            NotPlannableError: Naming the figure.
        """
        require("prompt tokens", self.retrieved_tokens, above=0)
        require("output tokens", self.output_tokens, least=1)
        require("shared tokens", self.shared_tokens, least=0, most=self.retrieved_tokens)
        require("the share of semantic hits", self.semantic_hit_share, least=0, most=1)
        require("the price of a look-up", self.lookup_usd, least=0)

    @property
    def mix(self) -> TokenMix:
        """A request that is computed; the shared part comes from the prefix cache."""
        return TokenMix(self.retrieved_tokens, self.output_tokens, self.shared_tokens)

    def usd(self, api: ApiTerms) -> float:
        """What a request costs on the mean, hits included."""
        missed = 1 - self.semantic_hit_share
        return self.lookup_usd + missed * api.usd_per_request(self.mix)

    def prompt_share(self, api: ApiTerms) -> float:
        """Share of the price of a computed request that its prompt is."""
        whole = api.tokens_usd(self.mix)
        answer = api.tokens_usd(TokenMix(0.0, self.output_tokens))
        return 1 - answer / whole if whole > 0 else 0.0
