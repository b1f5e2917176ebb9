"""From options and a manifest to the world that is simulated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml

from spillway.api.quantities import parse_duration
from spillway.api.validation import InvalidPoolError, parse
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.sim.conditions import Conditions
from spillway.sim.manifest import POLICY_FIELDS, conditions_of
from spillway.sim.profiles import profile_named

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What a command line says about the world; None: not said.

    Attributes:
        pool: A manifest whose prices, targets and limits stand where no option does.
        profile: Name of a replica's profile.
        gpu_price: US dollars a replica-hour.
        api_price: US dollars a million prompt and output tokens, as ``0.30/0.60``.
        lead: Median time from creation to Ready, Go-style.
        ttft: Target, Go-style.
        tpot: Target, Go-style.
        attainment: Share of requests that must meet both.
        floor: Fewest replicas.
        max: Most replicas.
        seed: Of everything random.
    """

    pool: Path | None = None
    profile: str | None = None
    gpu_price: float | None = None
    api_price: str | None = None
    lead: str | None = None
    ttft: str | None = None
    tpot: str | None = None
    attainment: float | None = None
    floor: int | None = None
    max: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Which pool it is.

    Attributes:
        model: As engines report it.
        namespace: Of the pool; None where its manifest names none.
        name: Of the pool.
    """

    model: str
    namespace: str | None
    name: str


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated.

    Attributes:
        conditions: The world.
        burst: Whether anything may leave for the API.
        fields: Of the pool's spec, for Spillway.
        remarks: What could not be taken from the manifest.
        identity: Of the manifest's pool; None without one.
    """

    conditions: Conditions
    burst: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    identity: Identity | None = None


def world(options: WorldOptions) -> World:
    """The world, or one message about what is wrong with it."""
    base = World(Conditions(seed=options.seed))
    if options.pool is not None:
        base = _from_pool(options.pool, base.conditions)
    try:
        return replace(base, conditions=_with_options(base.conditions, options))
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)


def _with_options(conditions: Conditions, options: WorldOptions) -> Conditions:
    """The options over what stands already.

    Raises:
        ValueError: One is not acceptable; the message names it.
    """
    said: dict[str, Any] = {
        "gpu_usd_per_replica_hour": options.gpu_price,
        "ttft_seconds": _seconds("ttft", options.ttft),
        "tpot_seconds": _seconds("tpot", options.tpot),
        "attainment": options.attainment,
        "floor": options.floor,
        "max": options.max,
    }
    said = {name: value for name, value in said.items() if value is not None}
    if options.profile is not None:
        said["profile"] = profile_named(options.profile)
    lead = _seconds("lead", options.lead)
    if lead is not None:
        said["lead"] = replace(conditions.lead, median_seconds=lead)
    if options.api_price is not None:
        prompt, output = _prices(options.api_price)
        said["api"] = replace(
            conditions.api, input_usd_per_million=prompt, output_usd_per_million=output
        )
    return replace(conditions, **said)


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        msg = f"--{name} {error}"
        raise ValueError(msg) from None
    if seconds <= 0:
        msg = f"--{name} must be longer than 0s, got {text!r}"
        raise ValueError(msg)
    return seconds


def _prices(text: str) -> tuple[float, float]:
    parts = text.split("/")
    try:
        prompt, output = (float(part) for part in parts)
    except ValueError:
        prompt = output = -1.0
    if not (0 <= prompt < float("inf") and 0 <= output < float("inf")):
        msg = (
            "--api-price must be US dollars a million prompt and output tokens such as 0.30/0.60, "
            f"got {text!r}"
        )
        raise ValueError(msg)
    return prompt, output


def _from_pool(path: Path, base: Conditions) -> World:
    raw = _document(path)
    try:
        pool = parse(raw)
    except InvalidPoolError as error:
        problems = "\n       ".join(str(problem) for problem in error.problems)
        fail(f"{path} is not a valid InferencePool\n       {problems}", ExitCode.INVALID)
    conditions, remarks = conditions_of(pool.spec, pool.spec.model_name, base)
    fields = {name: raw["spec"][name] for name in POLICY_FIELDS if name in raw["spec"]}
    namespace = raw["metadata"].get("namespace")
    identity = Identity(pool.spec.model_name, namespace, pool.name)
    return World(conditions, pool.spec.burst is not None, fields, tuple(remarks), identity)


def _document(path: Path) -> dict[str, Any]:
    """The one InferencePool of a file."""
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        fail(f"{path}: {error.strerror}; name a file that can be read", ExitCode.USAGE)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fail(f"{path}: not YAML: {' '.join(str(error).split())}", ExitCode.USAGE)
    pools = [d for d in documents if isinstance(d, dict) and d.get("kind") == "InferencePool"]
    if len(pools) != 1:
        fail(f"{path} must hold one InferencePool, got {len(pools)}", ExitCode.USAGE)
    return pools[0]
