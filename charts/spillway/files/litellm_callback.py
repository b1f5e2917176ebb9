"""Overflow in LiteLLM's proxy: which requests of a pool go to a paid API, within its allowance.

One file that needs only what LiteLLM's image has; mount it beside the proxy's config and name it in
``litellm_settings.callbacks: ["litellm_callback.handler"]``. Deployments say in ``model_info``
whose they are: ``spillway_pool: NAMESPACE/NAME``, and paid ones ``spillway_provider: NAME`` too.

A request stays on the pool's own replicas while requests and prompt tokens in flight are below the
value's ``admit`` (where that is unknown: by ``fraction``); what is beyond goes to the first
provider in the value's order that has room, as long as the allowance lasts. No value, no provider
or no allowance means local, where requests queue. Every doubt is resolved that way, because nothing
that stays costs money.

Settings, all of them environment variables:
    SPILLWAY_URL: The operator's HTTP endpoint.
    SPILLWAY_REFRESH_SECONDS: How often the value is asked for (1).
    SPILLWAY_MAX_AGE_SECONDS: A value that could not be refreshed for so long is not used (45).
    SPILLWAY_SHARES: Processes that serve the same pools: each takes this part of a provider's rate
        limits, and of the value where the operator does not deal it out itself (1).
    SPILLWAY_STAY: Requests that never leave, as ``header:NAME=VALUE``, ``header:NAME``,
        ``key:ALIAS``, ``team:ID_OR_ALIAS`` and ``model:ALIAS``, separated by commas.
"""

# ruff: noqa: ARG002 - LiteLLM calls these methods by its own signatures.
# No postponed annotations: LiteLLM loads this file without registering it as a module, and the
# dataclasses of such a file can't look names up.
import asyncio
import hashlib
import logging
import math
import os
import socket
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

try:
    from litellm.integrations.custom_logger import CustomLogger
except ImportError:  # Outside of LiteLLM: documentation, tests.
    CustomLogger = object

log = logging.getLogger("spillway")

#: Kept for sessions whose prefix is in the replicas' caches, while there are such sessions.
SESSION_RESERVE: Final = 0.05
#: How long a session's prefix is taken to be cached.
SESSION_SECONDS: Final = 300.0
_SESSIONS_KEPT: Final = 20_000
_MINUTE: Final = 60.0
#: First pause after a 429 without Retry-After; it doubles while 429s go on.
_PAUSE_SECONDS: Final = 5.0
_MOST_PAUSE_SECONDS: Final = 300.0
#: A request that was given a place and was not sent by then never will be.
_UNSENT_SECONDS: Final = 30.0
#: No answer takes so long; nobody told how this request ended.
_LOST_SECONDS: Final = 3600.0
_FETCH_SECONDS: Final = 2.0
#: Questions at a time until the leader is met: with one standby, seven times of eight.
_TRIES: Final = 3
#: Of English text, until answers have told.
_CHARACTERS_PER_TOKEN: Final = 4.0
_ASSUMED_OUTPUT_TOKENS: Final = 200.0
#: What is learned is a mean of about so many answers.
_LEARNED_FROM: Final = 50
_TOO_MANY: Final = 429
#: An operator that takes no reports: it deals nothing out.
_NO_REPORTS: Final = 405
_STAY_HEADER: Final = "x-spillway-stay"


@dataclass(frozen=True)
class Settings:
    """See the module.

    Attributes:
        url: The operator.
        refresh_seconds: Between two looks at the value.
        max_age_seconds: Oldest value that is used.
        shares: Processes among which bounds are divided.
        stay: (kind, name, value) of marks; an empty value is any.
    """

    url: str = "http://spillway.spillway-system:8080"
    refresh_seconds: float = 1.0
    max_age_seconds: float = 45.0
    shares: int = 1
    stay: tuple[tuple[str, str, str], ...] = (("header", _STAY_HEADER, ""),)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings of this process.

        Raises:
            ValueError: One is not accepted; the message names it, its value and what is.
        """
        marks = [part.strip() for part in environment.get("SPILLWAY_STAY", "").split(",")]
        return cls(
            url=environment.get("SPILLWAY_URL", cls.url).rstrip("/"),
            refresh_seconds=_positive(environment, "SPILLWAY_REFRESH_SECONDS", cls.refresh_seconds),
            max_age_seconds=_positive(environment, "SPILLWAY_MAX_AGE_SECONDS", cls.max_age_seconds),
            shares=max(1, round(_positive(environment, "SPILLWAY_SHARES", cls.shares))),
            stay=cls.stay + tuple(_mark(part) for part in marks if part),
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        msg = f"{name}: must be a number above 0, got {text!r}"
        raise ValueError(msg)
    return number


def _mark(text: str) -> tuple[str, str, str]:
    kind, _, rest = text.partition(":")
    name, _, value = rest.partition("=")
    if kind not in {"header", "key", "team", "model"} or not name:
        msg = (
            "SPILLWAY_STAY: must be header:NAME, header:NAME=VALUE, key:ALIAS, team:ID or "
            f"model:ALIAS, separated by commas, got {text!r}"
        )
        raise ValueError(msg)
    return kind, name.lower() if kind == "header" else name, value


@dataclass(frozen=True)
class Value:
    """The operator's overflow value, as far as this process may use it.

    Attributes:
        epoch: Of the leader that made it.
        version: Of the grant.
        until: When it expires, by the operator's clock.
        expires: The same by ours.
        fraction: Share of the arrivals that should leave, where ``in_flight`` is not known.
        in_flight: Requests that the replicas may have from this process.
        prompt_tokens: Their prompt tokens; None for no bound.
        requests: Requests that may leave under this version.
        usd: What they may cost.
        providers: Names and shares, cheapest first.
        dealt: Whether the operator has dealt this process its own part of the bounds.
        terms: Of each provider, as far as the operator tells: longest context, dollars for a
            prompt token, dollars for an output token.
    """

    epoch: int
    version: int
    until: float
    expires: float
    fraction: float
    in_flight: float | None
    prompt_tokens: float | None
    requests: float
    usd: float
    providers: tuple[tuple[str, float], ...]
    dealt: bool = False
    terms: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Any, now: float, shares: int = 1) -> "Value":
        """The value of the operator's JSON.

        Args:
            document: The JSON.
            now: Seconds since the epoch.
            shares: Processes that divide the bounds where the operator does not.

        Raises:
            ValueError: It is none.
        """
        try:
            until = datetime.fromisoformat(document["until"]).timestamp()
            valid = document.get("validForSeconds")
            share = document.get("share")
            whole = document["allowance"] | (document.get("admit") or {})
            part = whole if share is None else share
            by = shares if share is None else 1
            terms = (document.get("terms") or {}).get("providers") or ()
            value = cls(
                epoch=int(document["epoch"]),
                version=int(document["version"]),
                until=until,
                expires=until if valid is None else now + float(valid),
                fraction=float(document["fraction"]),
                in_flight=_bound(part.get("inFlight"), by),
                prompt_tokens=_bound(part.get("promptTokens"), by),
                requests=float(part["requests"]) / by,
                usd=float(part["usd"]) / by,
                providers=tuple(
                    (str(p["name"]), float(p["fraction"])) for p in document["providers"]
                ),
                dealt=share is not None,
                terms={
                    str(each["name"]): (
                        float(each.get("maxContextTokens") or math.inf),
                        float(each["inputUsdPerMillion"]) / 1e6,
                        float(each["outputUsdPerMillion"]) / 1e6,
                    )
                    for each in terms
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"not an overflow value: {error!r}"
            raise ValueError(msg) from error
        numbers = (value.fraction, value.requests, value.usd, *(f for _, f in value.providers))
        if not all(0 <= number < math.inf for number in numbers) or value.fraction > 1:
            msg = f"not an overflow value: {document}"
            raise ValueError(msg)
        return value

    @property
    def order(self) -> tuple[int, int]:
        """The highest wins."""
        return self.epoch, self.version

    @property
    def closed(self) -> bool:
        """Whether nothing may leave."""
        return self.requests <= 0 or self.usd <= 0

    def ranked(self) -> list[str]:
        """Providers, cheapest first; those that the operator gives no share come last."""
        shared = any(fraction > 0 for _, fraction in self.providers)
        return [n for n, f in self.providers if f > 0 or not shared] + [
            n for n, f in self.providers if shared and f <= 0
        ]


def _bound(number: Any, shares: int) -> float | None:
    if number is None:
        return None
    if not 0 <= float(number) < math.inf:
        msg = f"must be a number from 0, got {number!r}"
        raise ValueError(msg)
    return float(number) / shares


@dataclass(frozen=True)
class Request:
    """What matters of a request.

    Attributes:
        characters: Of its prompt.
        most_output_tokens: That it asks for; None where it does not say.
        session: Of which it is a part; "" for none.
        stays: Whether it must not leave.
        failed: Deployments that it has failed on.
    """

    characters: int = 0
    most_output_tokens: float | None = None
    session: str = ""
    stays: bool = False
    failed: frozenset[str] = frozenset()


@dataclass
class Provider:
    """One paid API, as this process knows it.

    Attributes:
        requests_per_minute: Its limit; inf for none.
        tokens_per_minute: The same in tokens.
        max_context_tokens: Longest prompt and answer.
        usd_per_prompt_token: Price; None if not known.
        usd_per_output_token: Price; None if not known.
    """

    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    max_context_tokens: float = math.inf
    usd_per_prompt_token: float | None = None
    usd_per_output_token: float | None = None
    paused_until: float = 0.0
    pause: float = _PAUSE_SECONDS
    in_flight: int = 0
    tokens_sent: float = 0.0
    sent: deque[tuple[float, float]] = field(default_factory=deque)

    def has_room(self, tokens: float, shares: int, now: float) -> bool:
        """Whether a request of so many tokens is within its rate limits, and it is not paused."""
        while self.sent and now - self.sent[0][0] >= _MINUTE:
            self.tokens_sent -= self.sent.popleft()[1]
        return (
            now >= self.paused_until
            and len(self.sent) + 1 <= self.requests_per_minute / shares
            and self.tokens_sent + tokens <= self.tokens_per_minute / shares
        )

    def note(self, tokens: float, now: float) -> None:
        """A request of so many tokens is sent."""
        self.sent.append((now, tokens))
        self.tokens_sent += tokens
        self.in_flight += 1

    def refused(self, retry_after: float | None, now: float) -> None:
        """Note a 429: nothing more goes there for as long as it says."""
        seconds = self.pause if retry_after is None else retry_after
        self.paused_until = max(self.paused_until, now + min(seconds, _MOST_PAUSE_SECONDS))
        self.pause = min(2 * self.pause, _MOST_PAUSE_SECONDS)


class Pool:
    """One pool in this process: its value, what is in flight, and what is used of the allowance."""

    def __init__(self, shares: int = 1) -> None:
        self.value: Value | None = None
        self.refreshed_at = -math.inf
        self.providers: dict[str, Provider] = {}
        self.in_flight = 0
        self.tokens_in_flight = 0.0
        self.used_requests = 0
        self.used_usd = 0.0
        self.characters_per_token = _CHARACTERS_PER_TOKEN
        self.output_tokens = _ASSUMED_OUTPUT_TOKENS
        self._answers = 0
        self._shares = shares
        #: A grant that this process found when it started: an earlier one may have used it up.
        self._unknown: tuple[tuple[int, int], float] | None = None
        self._owed = 0.0
        self._sessions: dict[str, float] = {}
        self._session_at = -math.inf

    # The value

    def offer(self, value: Value, now: float) -> bool:
        """Take a value unless a newer one is held; whether it was taken.

        Of two answers of the same order the one that lasts longer is newer, but one that closes
        always counts.
        """
        held = self.value
        if held is not None and now < held.expires:
            if held.dealt and not value.dealt:
                # A standby's: it knows the value, and not this process's part of it.
                return False
            if value.order < held.order:
                return False
            if value.order == held.order and value.until < held.until and not value.closed:
                return False
        if held is None and not value.closed and not value.dealt:
            self._unknown = value.order, value.until
        elif self._unknown is not None and (value.order, value.until) != self._unknown:
            # A new grant, or the operator has seen that enough of the old one is unused.
            self._unknown = None
        if held is None or value.order != held.order:
            self.used_requests, self.used_usd = 0, 0.0
        self.value, self.refreshed_at = value, now
        return True

    def live(self, now: float, max_age_seconds: float = math.inf) -> Value | None:
        """The value that holds now."""
        value = self.value
        if value is None or now >= value.expires or now - self.refreshed_at > max_age_seconds:
            return None
        return value

    def report(self, name: str) -> dict[str, Any]:
        """What the operator is told, so that it can deal out the bounds among gateways."""
        value = self.value
        held = (
            {"version": -1, "cap": 0}
            if value is None or not value.dealt
            else {"version": value.version, "cap": int(value.requests)}
        )
        used = self.used_requests if held["version"] >= 0 else 0
        return {"gateway": name, "worker": name, "inFlight": self.in_flight, "used": used, **held}

    # The choice

    def prompt_tokens(self, request: Request) -> float:
        """Estimate, from what answers have said of earlier prompts."""
        return max(1.0, request.characters / self.characters_per_token)

    def choose(
        self,
        request: Request,
        value: Value | None,
        now: float,
        *,
        local: bool,
        reachable: Iterable[str],
    ) -> str:
        """The provider that takes a request, or "": the pool's own replicas.

        Args:
            request: The request.
            value: The value that holds.
            now: Seconds since the epoch.
            local: Whether a replica can be tried at all; without one the value's bounds say
                nothing, and its allowance still does.
            reachable: Providers that can be tried.
        """
        if value is None or request.stays or self._unknown is not None:
            return ""
        if local and not self._beyond(request, value, now):
            return ""
        tokens = self.prompt_tokens(request)
        candidates = set(reachable)
        for name in value.ranked():
            provider = self.providers.get(name)
            if name not in candidates or provider is None:
                continue
            output = request.most_output_tokens or self.output_tokens
            fits = 1.1 * tokens + (request.most_output_tokens or 0) <= provider.max_context_tokens
            if fits and provider.has_room(tokens + output, self._shares, now):
                usd = self.estimate(request, provider, value)
                return name if self._allowed(usd, value) else ""
        return ""

    def estimate(self, request: Request, provider: Provider, value: Value) -> float:
        """US dollars to put aside for a request until its price is known.

        Its own upper bound where it states one, else what the operator put aside for each.
        """
        usual = value.usd / value.requests if value.requests else 0.0
        price_in, price_out = provider.usd_per_prompt_token, provider.usd_per_output_token
        if price_in is None or price_out is None:
            return usual
        prompt = self.prompt_tokens(request) * price_in
        if request.most_output_tokens is None:
            return max(usual, prompt)
        return prompt + request.most_output_tokens * price_out

    def _allowed(self, usd: float, value: Value) -> bool:
        return self.used_requests + 1 <= value.requests and self.used_usd + usd <= value.usd

    def _beyond(self, request: Request, value: Value, now: float) -> bool:
        """Whether the replicas have their fill without this request."""
        if value.in_flight is None:
            return self._drawn(request, value)
        bound = value.in_flight
        if not self._is_warm(request.session, now) and now - self._session_at < _MINUTE:
            bound *= 1 - SESSION_RESERVE
        if self.in_flight >= bound:
            return True
        most = value.prompt_tokens
        # A prompt that is longer than all of it may still have idle replicas to itself.
        return (
            most is not None
            and self.in_flight > 0
            and self.tokens_in_flight + self.prompt_tokens(request) > most
        )

    def _drawn(self, request: Request, value: Value) -> bool:
        """By fraction: a session is on one side; others leave evenly, not at random."""
        if request.session:
            digest = hashlib.blake2b(request.session.encode(), digest_size=8).digest()
            return int.from_bytes(digest) / 2**64 < value.fraction
        self._owed = min(self._owed + value.fraction, 2.0)
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _is_warm(self, session: str, now: float) -> bool:
        warm = bool(session) and now - self._sessions.get(session, -math.inf) < SESSION_SECONDS
        if warm:
            self._session_at = now
        return warm

    # The account

    def open(self, request: Request, provider: str, now: float) -> "Ticket":
        """Book an attempt."""
        tokens, usd = self.prompt_tokens(request), 0.0
        value = self.value
        order = (0, 0) if value is None else value.order
        if provider:
            api = self.providers[provider]
            usd = 0.0 if value is None else self.estimate(request, api, value)
            output = request.most_output_tokens or self.output_tokens
            api.note(tokens + output, now)
            self.used_requests += 1
            self.used_usd += usd
        else:
            self.in_flight += 1
            self.tokens_in_flight += tokens
            if request.session:
                self._sessions.pop(request.session, None)
                self._sessions[request.session] = now
                if len(self._sessions) > _SESSIONS_KEPT:
                    del self._sessions[next(iter(self._sessions))]
        return Ticket(self, provider, request.characters, tokens, usd, order, now)

    def leave(self, ticket: "Ticket") -> None:
        """The attempt is no longer in flight; its price may follow."""
        if not ticket.in_flight:
            return
        ticket.in_flight = False
        if ticket.provider:
            self.providers[ticket.provider].in_flight -= 1
        else:
            self.in_flight -= 1
            self.tokens_in_flight -= ticket.tokens

    def settle(self, ticket: "Ticket", usd: float | None, *, counts: bool = True) -> None:
        """Replace what was put aside by the price; None: it stays as estimated.

        Args:
            ticket: The attempt.
            usd: Its price.
            counts: False for one that was never sent: it gives its place back too.
        """
        self.leave(ticket)
        if ticket.provider and self.value is not None and ticket.order == self.value.order:
            self.used_usd += 0.0 if usd is None else usd - ticket.usd
            self.used_requests -= 0 if counts else 1

    def learn(self, ticket: "Ticket", prompt_tokens: float, output_tokens: float) -> None:
        """Take an answer's own counts into the estimates."""
        self._answers = min(self._answers + 1, _LEARNED_FROM)
        if prompt_tokens > 0 and ticket.characters > 0:
            seen = min(max(ticket.characters / prompt_tokens, 0.5), 20.0)
            self.characters_per_token += (seen - self.characters_per_token) / self._answers
        if output_tokens > 0:
            self.output_tokens += (output_tokens - self.output_tokens) / self._answers


@dataclass
class Ticket:
    """One attempt of one request, from the choice of its side to its end."""

    pool: Pool
    provider: str
    characters: int
    tokens: float
    usd: float
    order: tuple[int, int]
    opened_at: float
    routed: bool = False
    in_flight: bool = True
    sent: bool = False


class Meters:
    """The series by which Spillway sees this gateway; none without a Prometheus client."""

    def __init__(self, registry: Any = None) -> None:
        self._made: dict[str, Any] = {}
        self._registry = registry

    def add(self, name: str, labels: Mapping[str, str], amount: float = 1.0) -> None:
        """Count."""
        if (meter := self._meter("Counter", name, labels)) is not None:
            meter.labels(**labels).inc(max(0.0, amount))

    def set(self, name: str, labels: Mapping[str, str], level: float) -> None:
        """Show a level."""
        if (meter := self._meter("Gauge", name, labels)) is not None:
            meter.labels(**labels).set(level)

    def _meter(self, kind: str, name: str, labels: Mapping[str, str]) -> Any:
        if name not in self._made:
            try:
                import prometheus_client
            except ImportError:
                log.warning("no prometheus_client: Spillway can't see this gateway")
                self._made[name] = None
                return None
            extra: dict[str, Any] = {} if self._registry is None else {"registry": self._registry}
            if kind == "Gauge":
                # Processes of one gateway: the sum of those that live.
                extra["multiprocess_mode"] = "livesum"
            full, text = f"spillway_gateway_{name}", _HELP[name]
            self._made[name] = getattr(prometheus_client, kind)(full, text, tuple(labels), **extra)
        return self._made[name]


_HELP: Final = {
    "requests": "Attempts that were sent, by destination and provider.",
    "prompt_tokens": "Prompt tokens of answered requests.",
    "completion_tokens": "Output tokens of answered requests.",
    "cost_usd": "US dollars that providers charged, as LiteLLM prices it.",
    "in_flight": "Requests under way.",
    "failures": "Attempts that failed, by provider and status code.",
    "routed_requests": "Attempts of requests that LiteLLM's own routers sent to this pool.",
    "cache_hits": "Requests that a cache answered.",
    "cache_saved_tokens": "Tokens of the answers and prompts that a cache saved.",
    "value_age_seconds": "Age of the overflow value that is used; -1 without one.",
}


class Stays(Exception):  # noqa: N818 - a state of the request, reported as the proxy's own error.
    """A request that must not leave finds nothing of its own to be served by."""

    status_code = 503


class Handler(CustomLogger):  # type: ignore[misc]  # LiteLLM's class, where it is installed.
    """LiteLLM's view of it: the router's choice, and how each attempt ended."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        fetch: Callable[[str, Mapping[str, Any]], Awaitable[Any]] | None = None,
        clock: Callable[[], float] = time.time,
        registry: Any = None,
        deployments: Callable[[str], Iterable[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Wire it.

        Args:
            settings: None takes the environment's.
            fetch: Hands a report to a URL and gets its JSON; None asks the operator over HTTP.
            clock: Seconds since the epoch.
            registry: Of the metrics; None is the one that the proxy serves.
            deployments: All deployments of a model group, those in cooldown too.
        """
        super().__init__()
        self.settings = settings or Settings.from_environment()
        self.pools: dict[str, Pool] = {}
        self._fetch = fetch or Operator()
        self._clock = clock
        # A process that starts again is another one: what it had is not dealt to it twice.
        self._name = f"litellm-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"[:253]
        self._meters = Meters(registry)
        self._deployments = deployments or _of_the_proxy
        self._tickets: dict[str, Ticket] = {}
        self._locals: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = threading.RLock()

    # The router's choice

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """The deployments that may serve a request: replicas, or those of one provider.

        Those that the request failed on are left out as long as there are others.

        Raises:
            Exception: The request must not leave, and there is nothing of its own to serve it.
        """
        kwargs = {} if request_kwargs is None else request_kwargs
        request = self._request(messages, kwargs)
        mine = [d for d in healthy_deployments if _pool_of(d)]
        if not mine:
            kept = [d for d in healthy_deployments if _info(d).get("spillway_local")]
            if request.stays and not kept:
                raise _stays(model)
            return kept if request.stays else healthy_deployments
        key = _pool_of(mine[0])
        pool = await self._pool(key)
        local = [d for d in mine if _pool_of(d) == key and not _provider_of(d)]
        paid: dict[str, list[Any]] = {}
        for deployment in mine:
            name = _provider_of(deployment)
            if _pool_of(deployment) == key and name and _id(deployment) not in request.failed:
                paid.setdefault(name, []).append(deployment)
        for name, apis in paid.items():
            terms = None if pool.value is None else pool.value.terms.get(name)
            _describe(pool.providers.setdefault(name, Provider()), apis, terms)
        fresh = [d for d in local if _id(d) not in request.failed]
        now = self._clock()
        with self._lock:
            call_id = kwargs.setdefault("litellm_call_id", str(uuid.uuid4()))
            self._close(call_id, 0.0)
            provider = pool.choose(
                request,
                pool.live(now, self.settings.max_age_seconds),
                now,
                local=bool(fresh),
                reachable=paid,
            )
            known = self._locals.setdefault(key, {})
            known.update((_id(d), d) for d in local)
            if not provider and not fresh:
                fresh = self._out_of_sight(model, key, request.failed)
            if not provider and not fresh:
                raise _stays(model)
            ticket = self._tickets[call_id] = pool.open(request, provider, now)
            ticket.routed = self._was_routed(model, kwargs)
            self._show(key, pool, provider)
        return paid[provider] if provider else fresh

    def _was_routed(self, model: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether the client asked for one of LiteLLM's own routers, which chose this group."""
        asked = ((kwargs.get("proxy_server_request") or {}).get("body") or {}).get("model")
        if not asked or asked == model:
            return False
        named = (d.get("litellm_params") or {} for d in self._deployments(asked))
        return any(str(params.get("model", "")).startswith("auto_router/") for params in named)

    def _out_of_sight(self, model: str, key: str, failed: frozenset[str]) -> list[Any]:
        """Replicas that the router holds back; as a last resort those that failed already.

        A deployment is often a Service: behind it the next attempt may meet another replica, and
        the alternative is an error or a paid API that may not be used.
        """
        every = [d for d in self._deployments(model) if _pool_of(d) == key and not _provider_of(d)]
        every = every or list(self._locals.get(key, {}).values())
        return [d for d in every if _id(d) not in failed] or every

    async def async_pre_call_deployment_hook(
        self,
        kwargs: dict[str, Any],
        call_type: Any,
    ) -> None:
        """Just before an attempt: also for those that name a deployment and were never routed.

        Raises:
            Exception: It would leave and must not, or has no allowance.
        """
        info = kwargs.get("model_info") or _metadata(kwargs).get("model_info") or {}
        call_id, key = kwargs.get("litellm_call_id", ""), info.get("spillway_pool", "")
        provider = info.get("spillway_provider", "")
        request = self._request(kwargs.get("messages"), kwargs)
        at_home = bool(info.get("spillway_local") or (key and not provider))
        # Without model_info it is no deployment of the router's: LiteLLM's own helper calls.
        if request.stays and info and not at_home:
            raise _stays(str(kwargs.get("model", "")))
        if key and call_id not in self._tickets:
            pool, now = await self._pool(key), self._clock()
            pool.providers.setdefault(provider, Provider())
            with self._lock:
                value = pool.live(now, self.settings.max_age_seconds)
                if provider and provider != pool.choose(
                    request, value, now, local=False, reachable=[provider]
                ):
                    raise _stays(str(kwargs.get("model", "")))
                self._tickets[call_id] = pool.open(request, provider, now)
                self._show(key, pool, provider)
        ticket, logger = self._tickets.get(call_id), kwargs.get("litellm_logging_obj")
        if ticket is not None and logger is not None:
            # However a request ends, its logging object goes with it, if late.
            weakref.finalize(logger, self._lost, call_id, ticket)

    def log_pre_api_call(self, model: str, messages: Any, kwargs: dict[str, Any]) -> None:
        """The attempt is sent now, unlike one that a cache answers."""
        ticket = self._tickets.get(kwargs.get("litellm_call_id", ""))
        if ticket is not None and not ticket.sent:
            ticket.sent = True
            self._meters.add("requests", self._labels(ticket))
            if ticket.routed:
                self._meters.add("routed_requests", self._where(ticket))

    # How it ended

    async def async_post_call_success_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        response: Any,
        call_type: Any,
    ) -> None:
        """A whole answer is here; its price follows."""
        self._served(request_data)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: AsyncIterable[Any], request_data: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        """A stream on its way to the client; one that hangs up ends it as well."""
        try:
            async for item in response:
                yield item
        finally:
            self._served(request_data)

    def _served(self, request_data: Mapping[str, Any]) -> None:
        """Its place is free; its price follows."""
        with self._lock:
            ticket = self._tickets.get(request_data.get("litellm_call_id", ""))
            if ticket is not None:
                ticket.pool.leave(ticket)
                self._show(self._key(ticket), ticket.pool, ticket.provider)

    async def async_log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """An answer, a stream's end too, with its price."""
        with self._lock:
            ticket = self._tickets.get(kwargs.get("litellm_call_id", ""))
            if ticket is None:
                return
            prompt, output = _usage(kwargs, response_obj)
            if kwargs.get("cache_hit"):
                where = self._where(ticket)
                self._meters.add("cache_hits", where)
                self._meters.add("cache_saved_tokens", where, prompt + output)
                self._close(kwargs["litellm_call_id"], 0.0)
                return
            ticket.pool.learn(ticket, prompt, output)
            labels = self._labels(ticket)
            self._meters.add("prompt_tokens", labels, prompt)
            self._meters.add("completion_tokens", labels, output)
            usd = None
            if ticket.provider:
                usd = self._price(ticket, kwargs.get("response_cost"), prompt, output)
                self._meters.add("cost_usd", labels, usd)
                ticket.pool.providers[ticket.provider].pause = _PAUSE_SECONDS
            self._close(kwargs["litellm_call_id"], usd)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """One attempt failed."""
        self._failed(request_data.get("litellm_call_id", ""), exception)

    async def async_log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """A request failed for good, or a stream broke."""
        self._failed(kwargs.get("litellm_call_id", ""), kwargs.get("exception"))

    def _failed(self, call_id: str, error: Any) -> None:
        with self._lock:
            ticket = self._tickets.get(call_id)
            if ticket is None:
                return
            status = getattr(error, "status_code", None)
            labels = self._labels(ticket)
            self._meters.add("failures", {**labels, "code": str(status or "none")})
            if ticket.provider and status == _TOO_MANY:
                wait = _retry_after(error, self._clock())
                ticket.pool.providers[ticket.provider].refused(wait, self._clock())
            # An attempt that nobody answered may be billed all the same; a refusal is not.
            billed = status in {None, 408, 499, 504} and ticket.sent
            self._close(call_id, None if billed else 0.0)

    def _lost(self, call_id: str, ticket: Ticket) -> None:
        """Nobody will tell how it ended; what was put aside for it stays spent."""
        with self._lock:
            if self._tickets.get(call_id) is ticket:
                self._close(call_id, None if ticket.sent else 0.0)

    def _close(self, call_id: str, usd: float | None) -> None:
        ticket = self._tickets.pop(call_id, None)
        if ticket is not None:
            ticket.pool.settle(ticket, usd, counts=ticket.sent)
            self._show(self._key(ticket), ticket.pool, ticket.provider)

    @staticmethod
    def _price(ticket: Ticket, said: Any, prompt: float, output: float) -> float:
        """US dollars of an answer: by LiteLLM, by the deployment's prices, or as estimated."""
        if isinstance(said, int | float) and said > 0:
            return float(said)
        api = ticket.pool.providers[ticket.provider]
        if api.usd_per_prompt_token is None or api.usd_per_output_token is None:
            return ticket.usd
        return prompt * api.usd_per_prompt_token + output * api.usd_per_output_token

    # What is seen from outside

    def _key(self, ticket: Ticket) -> str:
        return next(key for key, pool in self.pools.items() if pool is ticket.pool)

    def _labels(self, ticket: Ticket) -> dict[str, str]:
        return _labels(self._key(ticket), ticket.provider)

    def _where(self, ticket: Ticket) -> dict[str, str]:
        return {k: v for k, v in self._labels(ticket).items() if k in {"namespace", "pool"}}

    def _show(self, key: str, pool: Pool, provider: str) -> None:
        level = pool.providers[provider].in_flight if provider else pool.in_flight
        self._meters.set("in_flight", _labels(key, provider), level)

    # The value

    async def _pool(self, key: str) -> Pool:
        """A pool; the first request of one waits for its value."""
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = Pool(self.settings.shares)
            await self._refresh(key, pool)
        task = self._tasks.get(key)
        if task is None or task.done():
            self._tasks[key] = asyncio.get_running_loop().create_task(self._keep_fresh(key, pool))
        return pool

    async def _keep_fresh(self, key: str, pool: Pool) -> None:
        while True:
            await asyncio.sleep(self.settings.refresh_seconds)
            await self._refresh(key, pool)
            self._sweep()

    async def _refresh(self, key: str, pool: Pool) -> None:
        try:
            document = await self._fetch(
                f"{self.settings.url}/v1/overflow/{key}", pool.report(self._name)
            )
            now = self._clock()
            pool.offer(Value.parse(document, now, self.settings.shares), now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the value grows old.
            log.debug("no overflow value for %s: %r", key, error)
        now = self._clock()
        live = pool.live(now, self.settings.max_age_seconds)
        age = -1.0 if live is None else now - pool.refreshed_at
        where = {k: v for k, v in _labels(key, "").items() if k in {"namespace", "pool"}}
        self._meters.set("value_age_seconds", where, age)

    def _sweep(self) -> None:
        """Give back what was never sent, and what nobody has told of for an hour."""
        now = self._clock()
        with self._lock:
            for call_id, ticket in list(self._tickets.items()):
                age = now - ticket.opened_at
                if age > (_LOST_SECONDS if ticket.sent else _UNSENT_SECONDS):
                    self._lost(call_id, ticket)

    # Reading LiteLLM's objects

    def _request(self, messages: Any, kwargs: Mapping[str, Any]) -> Request:
        metadata = _metadata(kwargs)
        prompt = messages or kwargs.get("input") or kwargs.get("prompt")
        most = kwargs.get("max_completion_tokens") or kwargs.get("max_tokens")
        session = (
            kwargs.get("litellm_session_id")
            or metadata.get("session_id")
            or kwargs.get("prompt_cache_key")
        )
        failed = {
            *(kwargs.get("_excluded_deployment_ids") or ()),
            *(kwargs.get("_retry_skipped_deployment_ids") or ()),
            *(metadata.get("_failover_excluded_ids") or ()),
            *(a.get("deployment_id") for a in metadata.get("previous_models") or ()),
        }
        return Request(
            characters=_characters(prompt),
            most_output_tokens=float(most) if isinstance(most, int | float) and most > 0 else None,
            session=str(session or ""),
            stays=self._stays(kwargs, metadata),
            failed=frozenset(str(each) for each in failed if each),
        )

    def _stays(self, kwargs: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
        sent = kwargs.get("proxy_server_request") or {}
        headers = {
            str(name).lower(): str(value)
            for name, value in {
                **(metadata.get("headers") or {}),
                **(sent.get("headers") or {}),
                **(kwargs.get("extra_headers") or {}),
            }.items()
        }
        held = {
            "key": {metadata.get("user_api_key_alias"), metadata.get("user_api_key_hash")},
            "team": {metadata.get("user_api_key_team_id"), metadata.get("user_api_key_team_alias")},
            "model": {
                metadata.get("model_group"),
                metadata.get("model_group_alias"),
                (sent.get("body") or {}).get("model"),
            },
        }
        for kind, name, value in self.settings.stay:
            if kind != "header":
                if name in held[kind]:
                    return True
            elif name in headers and (not value or headers[name] == value):
                return True
        labelled = ("user_api_key_metadata", "user_api_key_team_metadata")
        return any((metadata.get(name) or {}).get("spillway_stay") for name in labelled)


class Operator:
    """Asks the operator over HTTP.

    One client for all questions: making one loads the certificate authorities, which takes some
    50 ms of CPU from the event loop that all requests share. But a connection for each, because the
    Service has standbys behind it, and one that is kept could lead to the same standby for ever.
    """

    def __init__(self) -> None:
        self._made: tuple[asyncio.AbstractEventLoop, Any] | None = None

    async def __call__(self, url: str, report: Mapping[str, Any]) -> Any:
        """The operator's JSON; the leader's where one of a few tries meets it."""
        client = self._client()
        for _ in range(_TRIES):
            answer = await client.post(url, json=report)
            if answer.status_code == _NO_REPORTS:
                answer = await client.get(url)
                break
            if not answer.is_success or "share" in answer.json():
                break
        answer.raise_for_status()
        return answer.json()

    def _client(self) -> Any:
        import httpx

        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            each = httpx.Limits(max_keepalive_connections=0)
            client = httpx.AsyncClient(timeout=_FETCH_SECONDS, trust_env=False, limits=each)
            self._made = loop, client
        return self._made[1]


def _of_the_proxy(model: str) -> Iterable[Mapping[str, Any]]:
    server = sys.modules.get("litellm.proxy.proxy_server")
    router = getattr(server, "llm_router", None)
    return (router.get_model_list(model_name=model) or ()) if router is not None else ()


def _stays(model: str) -> Exception:
    text = (
        f"Spillway: nothing may serve this request to {model} now: it must not leave, or the "
        "allowance is used up, and no replica of its own is known"
    )
    try:
        from litellm import ServiceUnavailableError
    except ImportError:
        return Stays(text)
    error: Exception = ServiceUnavailableError(message=text, llm_provider="spillway", model=model)
    return error


def _info(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    return deployment.get("model_info") or {}


def _id(deployment: Mapping[str, Any]) -> str:
    return str(_info(deployment).get("id", ""))


def _pool_of(deployment: Mapping[str, Any]) -> str:
    return str(_info(deployment).get("spillway_pool") or "")


def _provider_of(deployment: Mapping[str, Any]) -> str:
    return str(_info(deployment).get("spillway_provider") or "")


def _labels(key: str, provider: str) -> dict[str, str]:
    namespace, _, name = key.partition("/")
    where = "cloud" if provider else "local"
    return {"namespace": namespace, "pool": name, "destination": where, "provider": provider}


def _describe(
    provider: Provider, deployments: list[Any], terms: tuple[float, float, float] | None
) -> None:
    """Limits and prices by LiteLLM's own names, else the operator's.

    Several deployments of one provider are several keys, whose limits add up.
    """

    def known(name: str) -> list[float]:
        both = [{**_info(d), **(d.get("litellm_params") or {})}.get(name) for d in deployments]
        return [float(each) for each in both if isinstance(each, int | float)]

    def limit(name: str) -> float:
        found = known(name)
        return sum(found) if len(found) == len(deployments) else math.inf

    context, usd_in, usd_out = (math.inf, None, None) if terms is None else terms
    provider.requests_per_minute, provider.tokens_per_minute = limit("rpm"), limit("tpm")
    provider.max_context_tokens = min([context, *known("max_input_tokens")])
    provider.usd_per_prompt_token = max(known("input_cost_per_token"), default=usd_in)
    provider.usd_per_output_token = max(known("output_cost_per_token"), default=usd_out)


def _metadata(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Older endpoints call it ``metadata``, newer ones ``litellm_metadata``."""
    return {**(kwargs.get("metadata") or {}), **(kwargs.get("litellm_metadata") or {})}


def _characters(prompt: Any) -> int:
    """Of all texts in messages, inputs and their parts; pictures and sound are not counted."""
    if isinstance(prompt, str):
        return len(prompt)
    if isinstance(prompt, Mapping):
        return sum(_characters(prompt.get(key)) for key in ("content", "text", "input"))
    return sum(map(_characters, prompt)) if isinstance(prompt, list | tuple) else 0


def _usage(kwargs: Mapping[str, Any], response: Any) -> tuple[float, float]:
    """Prompt and output tokens of an answer."""
    logged = kwargs.get("standard_logging_object") or {}
    prompt, output = logged.get("prompt_tokens"), logged.get("completion_tokens")
    if prompt is None or output is None:
        usage = getattr(response, "usage", None)
        prompt = getattr(usage, "prompt_tokens", 0)
        output = getattr(usage, "completion_tokens", 0)
    return float(prompt or 0), float(output or 0)


def _retry_after(error: Any, now: float) -> float | None:
    """Seconds that a 429 asks to wait, as a number or a date; None where it does not say."""
    response = getattr(error, "response", None)
    said: dict[str, Any] = {}
    for headers in (
        getattr(response, "headers", None),
        getattr(error, "headers", None),
        getattr(error, "litellm_response_headers", None),
    ):
        said |= {str(name).lower(): value for name, value in dict(headers or {}).items()}
    text = str(said.get("retry-after", ""))
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).replace(tzinfo=UTC).timestamp() - now
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def __getattr__(name: str) -> Any:
    """``handler``, made when LiteLLM asks for it and not by an import."""
    if name != "handler":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    made = Handler()
    globals()["handler"] = made
    return made
