"""One vLLM replica at request level: a scheduler that steps, token by token, in simulated time.

Each step does what vLLM's V1 scheduler does (``vllm/v1/core/sched/scheduler.py``): running requests
come first, each with the tokens it still has to compute, then waiting ones in order of arrival,
within ``max_num_seqs``, the step's token budget and the free KV blocks. Long prompts are computed
in chunks that share steps with decodes, which is where long inter-token gaps come from. When KV
blocks run out, the youngest running request is preempted and computed again later.

Sequences that decode are moved together (`spillway.sim.decoders`); the batch is only gone through
one by one in steps that preempt or that have fewer tokens to give than sequences.

This is deliberately not the mean-value identity that capacity is learned with: what the operator
believes is tested against something that behaves differently.
"""

from __future__ import annotations

from collections import deque

from spillway.sim.decoders import Decoders
from spillway.sim.engine_metrics import EngineCounters, EngineGauges
from spillway.sim.profiles import BLOCK_TOKENS, ReplicaProfile
from spillway.sim.request import Request, Stream


class Replica:
    """A simulated engine. Time moves only by `advance` and `submit`, and only forwards.

    Attributes:
        profile: Its constants.
        counters: What it counted since it started; monotone.
    """

    def __init__(self, profile: ReplicaProfile, now: float) -> None:
        """Start an idle engine at ``now`` (seconds since the epoch)."""
        self.profile = profile
        self.counters = EngineCounters()
        self._clock = now
        # Streams in the batch, oldest first. Those in `_decoders` are not up to date; the others,
        # in the same order, are `_others`.
        self._running: list[Stream] = []
        self._decoders = Decoders()
        self._others: list[Stream] = []
        self._admitted = 0
        self._waiting: deque[Stream] = deque()
        self._free_blocks = profile.kv_blocks
        self._finished: list[Stream] = []
        # The step under way: how many decode together, what else it computes, since when, until
        # when. Nothing of either when there is none.
        self._together = 0
        self._plan: list[tuple[Stream, int]] = []
        self._step_started_at = 0.0
        self._step_ends_at = 0.0
        self._busy_seconds = 0.0
        self._hung_at: float | None = None

    @property
    def clock(self) -> float:
        """The moment that the replica has reached, seconds since the epoch."""
        return self._clock

    @property
    def in_flight(self) -> int:
        """Requests on the replica, running and waiting."""
        return len(self._running) + len(self._waiting)

    @property
    def due_at(self) -> float:
        """Until when nothing can end: the end of the step under way, or the clock if none is."""
        return self._step_ends_at if self._stepping else self._clock

    @property
    def step_tokens(self) -> int:
        """Tokens computed by the step under way; 0 when idle."""
        return self._together + sum(tokens for _, tokens in self._plan)

    @property
    def busy_seconds(self) -> float:
        """Seconds spent in steps up to `clock`; its slope is GPU utilisation, 0 to 1."""
        if not self._stepping:
            return self._busy_seconds
        until = self._clock if self._hung_at is None else self._hung_at
        return self._busy_seconds + max(0.0, until - self._step_started_at)

    def gauges(self) -> EngineGauges:
        """Running, waiting and KV usage now."""
        return EngineGauges(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_usage=1 - self._free_blocks / self.profile.kv_blocks,
        )

    def submit(self, request: Request, now: float) -> Stream:
        """Queue a request at ``now``; the next step may take it.

        Raises:
            ValueError: ``now`` lies before `clock`, or prompt and output exceed the KV cache.
        """
        total = request.prompt_tokens + request.output_tokens
        if total > self.profile.kv_blocks * BLOCK_TOKENS:
            msg = (
                f"prompt_tokens + output_tokens must be at most "
                f"{self.profile.kv_blocks * BLOCK_TOKENS} (the KV cache), got {total}"
            )
            raise ValueError(msg)
        self._advance(now)
        stream = Stream(request, now)
        self._waiting.append(stream)
        return stream

    def advance(self, until: float) -> list[Stream]:
        """Run to ``until`` and return the requests that finished since the last call.

        Raises:
            ValueError: ``until`` lies before `clock`.
        """
        self._advance(until)
        finished, self._finished = self._finished, []
        return finished

    def drop(self) -> list[Stream]:
        """Stop at once, as a killed process does, and return the requests that are lost."""
        lost = [*self._running, *self._waiting]
        self._busy_seconds = self.busy_seconds
        self._decoders.release()
        self._running.clear()
        self._others.clear()
        self._waiting.clear()
        self._plan = []
        self._together = 0
        self._free_blocks = self.profile.kv_blocks
        return lost

    def hang(self) -> None:
        """Stop stepping while requests still queue up, as an engine in a deadlock does."""
        if self._hung_at is None:
            self._hung_at = self._clock

    def resume(self) -> None:
        """End a `hang`; the step that was under way takes the rest of its time."""
        if self._hung_at is not None:
            pause = self._clock - self._hung_at
            self._step_started_at += pause
            self._step_ends_at += pause
            self._hung_at = None

    def _advance(self, until: float) -> None:
        if until < self._clock:
            msg = f"time must not run backwards: at {self._clock}, asked for {until}"
            raise ValueError(msg)
        while self._hung_at is None:
            # A step begins once time moves on, so that requests of one instant share it.
            if not self._stepping and (until == self._clock or not self._begin_step()):
                break
            if self._step_ends_at > until:
                break
            self._clock = self._step_ends_at
            self._end_step()
        self._clock = until

    @property
    def _stepping(self) -> bool:
        return bool(self._together or self._plan)

    def _begin_step(self) -> bool:
        """Schedule the next step at the present clock; False when there is nothing to do."""
        if not self._running and not self._waiting:
            return False
        budget = self._schedule_together(self.profile.max_num_batched_tokens)
        preempted = False
        if budget is None:
            self._decoders.release()
            self._others = list(self._running)
            budget, preempted = self._schedule_running(self.profile.max_num_batched_tokens)
        if not preempted:
            self._admit(budget)
        self._step_started_at = self._clock
        self._step_ends_at = self._clock + self._step_seconds()
        return True

    def _schedule_together(self, budget: int) -> int | None:
        """Give all running requests their tokens without going through them; the budget left.

        That takes a token for each that decodes, their KV blocks, and of the others at most the
        youngest, whose prompt goes on. None, and nothing done, where any of this is missing.
        """
        decoders, others = self._decoders, self._others
        if others:
            behind = []
            for stream in others:
                if decoders.takes(stream):
                    decoders.add(stream, stream.order)
                else:
                    behind.append(stream)
            self._others = others = behind
        due = decoders.blocks_due
        if decoders.count > budget or due > self._free_blocks:
            return None
        if others:
            stream = others[0]
            tokens = min(stream.pending_tokens, budget - decoders.count)
            needed = -(-(stream.computed_tokens + tokens) // BLOCK_TOKENS) - stream.blocks
            together = len(others) == 1 and stream is self._running[-1] and tokens > 0
            if not together or due + needed > self._free_blocks:
                return None
            self._reserve(stream, tokens)
            self._plan.append((stream, tokens))
            budget -= tokens
        self._free_blocks -= due
        self._together = decoders.count
        return budget - decoders.count

    def _schedule_running(self, budget: int) -> tuple[int, bool]:
        """Give running requests their tokens; returns the budget left and whether one had to go."""
        running, plan = self._running, self._plan
        preempted = False
        index = 0
        while index < len(running) and budget > 0:
            stream = running[index]
            tokens = min(stream.pending_tokens, budget)
            while not self._reserve(stream, tokens):
                self._preempt(running.pop())
                self._others.pop()
                preempted = True
                if index == len(running):
                    return budget, preempted  # It was the youngest itself.
            plan.append((stream, tokens))
            budget -= tokens
            index += 1
        return budget, preempted

    def _admit(self, budget: int) -> None:
        """Move waiting requests into the batch, in order, until something is full."""
        waiting, running = self._waiting, self._running
        while waiting and budget > 0 and len(running) < self.profile.max_num_seqs:
            stream = waiting[0]
            stream.computed_tokens = stream.request.cached_tokens
            tokens = min(stream.pending_tokens, budget)
            if not self._reserve(stream, tokens):
                stream.computed_tokens = 0
                return
            waiting.popleft()
            self._admitted += 1
            stream.order = self._admitted
            running.append(stream)
            self._others.append(stream)
            self._plan.append((stream, tokens))
            budget -= tokens
            if stream.preemptions == 0:
                self.counters.prefix_cache_queries += stream.request.prompt_tokens
                self.counters.prefix_cache_hits += stream.request.cached_tokens

    def _reserve(self, stream: Stream, tokens: int) -> bool:
        """Take the KV blocks for ``tokens`` more; False when there are too few."""
        needed = -(-(stream.computed_tokens + tokens) // BLOCK_TOKENS) - stream.blocks
        if needed > self._free_blocks:
            return False
        if needed > 0:
            stream.blocks += needed
            self._free_blocks -= needed
        return True

    def _preempt(self, stream: Stream) -> None:
        self._release(stream)
        stream.computed_tokens = 0
        stream.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.appendleft(stream)

    def _release(self, stream: Stream) -> None:
        self._free_blocks += stream.blocks
        stream.blocks = 0

    def _step_seconds(self) -> float:
        """Duration of the planned step."""
        context, prefill = (self._decoders.context_tokens if self._together else 0), 0
        pairs = 0.0
        for stream, tokens in self._plan:
            held = stream.computed_tokens
            if tokens == 1 and stream.generated_tokens:
                context += held
            else:
                prefill += tokens
                # Each of the chunk's queries sees what is held and, causally, half of the chunk.
                pairs += tokens * (held + tokens / 2)
        profile = self.profile
        return (
            profile.base_seconds
            + profile.per_sequence_seconds * (self._together + len(self._plan))
            + profile.per_context_token_seconds * context
            + profile.per_prefill_token_seconds * prefill
            + profile.per_attention_pair_seconds * pairs
        )

    def _end_step(self) -> None:
        """Send the step's tokens at the present clock and let finished requests go."""
        now, counters = self._clock, self.counters
        self._busy_seconds += now - self._step_started_at
        counters.steps += 1
        ended = len(self._finished)
        sent = self._together
        if sent:
            gap, finished = self._decoders.step(now)
            counters.inter_token_latency.observe(gap, sent)
            for stream in finished:
                self._finish(stream, now)
        prompt_tokens = 0
        for stream, tokens in self._plan:
            stream.computed_tokens += tokens
            if stream.pending_tokens:
                continue  # An early chunk of a prompt sends no token.
            stream.generated_tokens += 1
            sent += 1
            if stream.first_token_at is None:
                prompt_tokens += self._first_token(stream, now)
            else:
                gap = now - stream.last_token_at
                counters.inter_token_latency.observe(gap)
                stream.max_gap_seconds = max(stream.max_gap_seconds, gap)
            stream.last_token_at = now
            if stream.generated_tokens == stream.request.output_tokens:
                self._finish(stream, now)
        self._plan = []
        self._together = 0
        if len(self._finished) > ended:
            self._running = [stream for stream in self._running if stream.finished_at is None]
            self._others = [stream for stream in self._others if stream.finished_at is None]
        counters.generation_tokens += sent
        counters.prompt_tokens += prompt_tokens
        if sent:
            counters.iteration_tokens.observe(prompt_tokens + sent)

    def _first_token(self, stream: Stream, now: float) -> int:
        """Record the end of a prefill; returns its prompt tokens."""
        stream.first_token_at = now
        self.counters.ttft.observe(now - stream.request.arrived_at)
        self.counters.prompt_tokens_cached += stream.request.cached_tokens
        return stream.request.prompt_tokens

    def _finish(self, stream: Stream, now: float) -> None:
        self._release(stream)
        stream.finished_at = now
        self.counters.requests_finished[stream.request.finish_reason] += 1
        self.counters.prompt_lengths.observe(stream.request.prompt_tokens)
        self.counters.output_lengths.observe(stream.generated_tokens)
        self.counters.e2e.observe(now - stream.request.arrived_at)
        self._finished.append(stream)
