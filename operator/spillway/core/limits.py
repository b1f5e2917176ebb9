"""The ordered chain of limits between what a policy wants and what is asked for.

Each limit is a function (situation, draft) -> draft: it lets the draft pass, or changes its number
and says why. Their order is their precedence, since a later one overrules an earlier one:

1. *How long* (persistence, release window, cooldown): is this wish more than a moment's? They come
   first because they speak of the policy's own proposal, undisturbed by any other limit.
2. *How far* (step limits): of what lasts, so much at a time. Then zone redundancy, the guard's cap
   while a runaway is suspected, and schedules, which nobody's loop makes; what the first and the
   last add is bounded by all that follows.
3. *Vetoes* (fleet share, adopting, supply, shortage, rollout, lower bound, no data, hung engine):
   the world is in a state in which this move would be wrong. All but the first, which may ask for
   less, pull the draft back to what is there already, so among themselves their order decides only
   which reason is shown.
4. *Somebody else* (contested, target not found): what Spillway may not or can't set, it does not
   argue about.
5. *Bounds* (max, then floor): after the vetoes, because what is there already may itself be out of
   bounds. Floor is last of all numbers: it holds when everything else is unknown.
6. *Permission* (paused, advise, read-only): these change no number, so that what would have been
   done is still computed and shown.

A veto also sets ``hold``, which outlives the bounds: a target adopted above max is asked for max,
but loses no replica while adoption lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Mode, Policy
from spillway.api.quantities import format_duration
from spillway.api.reasons import Reason
from spillway.core.history import within
from spillway.core.policies.proposal import Proposal, load_to_serve, must_stay
from spillway.core.redundancy import replicas_to_survive
from spillway.core.situation import Data
from spillway.core.variants import by_zone, most, usable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from spillway.core.draft import Draft
    from spillway.core.situation import Situation

#: Long enough for the owner of an adopted target to see the condition and object.
ADOPTION_SECONDS: Final = 600.0


def persistence(situation: Situation, draft: Draft) -> Draft:
    """Add what burst already carries only when it has been wanted for some time.

    Only the Cost policy leans on burst; what burst may not carry (its share, the providers' rate
    limits) is added at once.
    """
    present, spec = situation.replicas, situation.spec
    if draft.desired <= present or spec.policy is not Policy.COST or not situation.burst_usable:
        return draft
    load = load_to_serve(situation)
    stays = 0 if isinstance(load, Proposal) else must_stay(situation, *load)
    wanted = within(situation.memory.proposals, situation.persistence_seconds, situation.now)
    lasting = max(present, stays, 0 if wanted is None else min(wanted))
    if lasting >= draft.desired:
        return draft
    asked = spec.scaling.persistence
    until = (
        "burst has cost what a start in vain would"
        if asked is None
        else f"it is needed for {format_duration(asked)}"
    )
    message = f"more is added once {until}; burst carries it until then"
    return draft.limited(lasting, Reason.PERSISTENCE, message)


def release_window(situation: Situation, draft: Draft) -> Draft:
    """Remove only what was superfluous for the whole window; Utilization has its own timing."""
    present = situation.replicas
    if draft.desired >= present or situation.spec.policy is Policy.UTILIZATION:
        return draft
    wanted = within(situation.memory.proposals, situation.release_window_seconds, situation.now)
    needed = present if wanted is None else min(present, max(wanted))
    if needed <= draft.desired:
        return draft
    return draft.limited(
        needed, Reason.RELEASE_WINDOW, "replicas go once they were superfluous for the window"
    )


def cooldown(situation: Situation, draft: Draft) -> Draft:
    """Remove nothing for a while after the last change, where the pool asks for that."""
    quiet, changed_at = situation.spec.scaling.cooldown, situation.memory.changed_at
    if draft.desired >= situation.replicas or changed_at is None:
        return draft
    if situation.now - changed_at >= quiet:
        return draft
    message = f"nothing goes within {format_duration(quiet)} of the last change"
    return draft.limited(situation.replicas, Reason.COOLDOWN, message)


def step_limits(situation: Situation, draft: Draft) -> Draft:
    """At most maxStepUp more or maxStepDown fewer in one decision."""
    present, scaling = situation.replicas, situation.spec.scaling
    if draft.desired > present + scaling.max_step_up:
        return draft.limited(
            present + scaling.max_step_up,
            Reason.STEP_LIMIT,
            f"at most {scaling.max_step_up} are added at a time",
        )
    if draft.desired < present - scaling.max_step_down:
        return draft.limited(
            present - scaling.max_step_down,
            Reason.STEP_LIMIT,
            f"at most {scaling.max_step_down} goes at a time",
        )
    return draft


def adopting(situation: Situation, draft: Draft) -> Draft:
    """Take nothing of what somebody else had asked for, for ten minutes after taking over.

    What Spillway itself has added since, or somebody by hand, may go again. Only above max must
    everything be held, because max then cuts the number that is asked for.
    """
    memory, present = situation.memory, situation.replicas
    if memory.adopted_at is None or situation.now - memory.adopted_at >= ADOPTION_SECONDS:
        return draft
    adopted, most = sum(memory.adopted.values()), situation.spec.replicas.max
    if min(draft.desired, most) >= adopted:
        return draft
    message = (
        "replicas that were there before the target was taken over stay for "
        f"{format_duration(ADOPTION_SECONDS)}"
    )
    desired = max(draft.desired, min(present, adopted))
    limited = draft.limited(desired, Reason.ADOPTING, message)
    return limited.held() if adopted > most else limited


def zone_redundancy(situation: Situation, draft: Draft) -> Draft:
    """Keep so many that the loss of a zone leaves the floor, or all that nothing else could serve.

    Where burst is usable it serves for a lost zone, so that only the floor must be left.
    """
    replicas = situation.spec.replicas
    if not replicas.survive_zone_loss:
        return draft
    zones = by_zone(situation.facts)
    if len(zones) < 2:
        message = "the pool's GPUs are in one zone, or zones are not known; no number outlives it"
        return draft.limited(draft.desired, Reason.ONE_ZONE, message)
    needed = replicas.floor if situation.burst_usable else draft.desired
    desired = replicas_to_survive(zones, draft.desired, needed)
    if desired == draft.desired:
        return draft
    message = f"so that {needed} are left when a zone is lost"
    return draft.limited(desired, Reason.ZONE_REDUNDANCY, message)


def runaway(situation: Situation, draft: Draft) -> Draft:
    """Add no more than half as many again to what was there before a suspected runaway."""
    suspicion = situation.memory.guard.suspicion
    if suspicion is None:
        return draft
    most = max(situation.replicas, suspicion.most_replicas)
    if draft.desired <= most:
        return draft
    message = f"at most {suspicion.most_replicas} replicas while a runaway is suspected"
    return draft.limited(most, Reason.RUNAWAY, message)


def at_least_scheduled(situation: Situation, draft: Draft) -> Draft:
    """As many as a schedule declares for now or for when a new replica would serve."""
    declared = situation.scheduled
    if draft.desired >= declared.replicas:
        return draft
    message = f"schedule {declared.name} asks for {declared.replicas}"
    return draft.limited(declared.replicas, Reason.SCHEDULE, message)


def fleet_share(situation: Situation, draft: Draft) -> Draft:
    """Leave scarce GPUs to pools that have more use for them; see `spillway.core.fleet`."""
    share = situation.facts.share
    if not share or set(situation.present) - set(share):
        return draft
    most_shared, step = sum(share.values()), situation.spec.scaling.max_step_down
    if draft.desired <= most_shared:
        return draft
    desired = min(draft.desired, max(most_shared, situation.replicas - step))
    message = "other pools that share the GPUs have more use for them"
    return draft.limited(desired, Reason.FLEET_SHARE, message)


def supply(situation: Situation, draft: Draft) -> Draft:
    """Ask for no more than the variants' bounds, the quota and the GPUs there are."""
    if draft.desired <= situation.replicas:
        return draft
    desired, reason, message = most(situation, draft.desired)
    return draft if desired >= draft.desired else draft.limited(desired, reason, message)


def gpu_shortage(situation: Situation, draft: Draft) -> Draft:
    """Ask for no more than exists and starts while no variant finds GPUs.

    It is no reason to ask for less either: the pods that wait get the next GPU.
    """
    if not situation.short or draft.desired <= situation.replicas:
        return draft
    if set(usable(situation)) - situation.short:
        return draft
    return draft.limited(
        situation.replicas,
        Reason.GPU_SHORTAGE,
        f"no node takes the pods that wait (variant {', '.join(sorted(situation.short))})",
    )


def rollout(situation: Situation, draft: Draft) -> Draft:
    """Remove nothing while a rollout replaces pods."""
    if not any(t.exists and t.rolling_out for t in situation.facts.targets.values()):
        return draft
    return _no_reduction(
        situation, draft, Reason.ROLLOUT, "nothing goes while a rollout replaces pods"
    )


def lower_bound(situation: Situation, draft: Draft) -> Draft:
    """Remove nothing while a part of the demand may leave unseen."""
    demand = situation.demand
    if demand is None or not demand.lower_bound or draft.desired >= situation.replicas:
        return draft
    return draft.limited(
        situation.replicas,
        Reason.LOWER_BOUND,
        "requests that burst are not counted, so demand is at least what the replicas see",
    )


def no_data(situation: Situation, draft: Draft) -> Draft:
    """Stay where the data is missing; add but remove nothing where a part of it is."""
    if situation.data is Data.COMPLETE:
        return draft
    if situation.data is Data.MISSING:
        message = "the number stays while metrics are missing"
        # What is declared needs no metrics.
        stays = max(situation.replicas, min(draft.desired, situation.scheduled.replicas))
        return draft.limited(stays, Reason.NO_DATA, message).held()
    message = "nothing goes while some metrics are missing"
    return _no_reduction(situation, draft, Reason.NO_DATA, message)


def hung_engine(situation: Situation, draft: Draft) -> Draft:
    """Remove nothing while a replica's requests get nowhere and its GPUs idle."""
    if not situation.hung:
        return draft
    return draft.limited(
        max(draft.desired, situation.replicas),
        Reason.HUNG_ENGINE,
        f"requests get nowhere while the GPUs idle on {', '.join(sorted(situation.hung))}",
    ).held()


def contested(situation: Situation, draft: Draft) -> Draft:
    """Leave a target alone that somebody else scales too."""
    for variant, target in sorted(situation.facts.targets.items()):
        other = target.contention
        if target.exists and other is not None:
            message = f"{other.kind} {other.name} also scales the target of variant {variant}"
            stays = draft.limited(situation.replicas, Reason.TARGET_CONTESTED, message)
            return stays.held().unwritten()
    return draft


def target_not_found(situation: Situation, draft: Draft) -> Draft:
    """Keep the number for the day the target is back.

    While one of several is gone, what the others have is all that serves: none of it goes.
    """
    gone = sorted(name for name, t in situation.facts.targets.items() if not t.exists)
    if not gone:
        return draft
    if len(gone) < len(situation.facts.targets):
        message = f"nothing goes while the target of variant {gone[0]} does not exist"
        return _no_reduction(situation, draft, Reason.TARGET_NOT_FOUND, message)
    message = "no target of the pool exists"
    return draft.limited(situation.replicas, Reason.TARGET_NOT_FOUND, message).held().unwritten()


def at_most_max(situation: Situation, draft: Draft) -> Draft:
    """No more serving replicas than the pool may have pods.

    Draining replicas are the first to serve again and warm ones are promoted, so neither takes
    room from a serving one; the warm pool shrinks instead (`spillway.core.warmsize`).
    """
    most = situation.spec.replicas.max
    if draft.desired <= most:
        return draft
    return draft.limited(most, Reason.MAX, f"the pool may have at most {most} replicas")


def at_least_floor(situation: Situation, draft: Draft) -> Draft:
    """Never fewer than the floor, whatever is known or not."""
    floor = situation.spec.replicas.floor
    if draft.desired >= floor:
        return draft
    return draft.limited(floor, Reason.FLOOR, f"the floor is {floor}")


def permission(situation: Situation, draft: Draft, *, read_only: bool) -> Draft:
    """Write nothing where Spillway may only look."""
    mode = situation.spec.mode
    if mode is Mode.PAUSED:
        message = "the pool is paused"
        return draft.limited(draft.desired, Reason.PAUSED, message).unwritten()
    if mode is Mode.ADVISE:
        message = "the pool only takes advice"
        return draft.limited(draft.desired, Reason.ADVISE, message).unwritten()
    if read_only:
        message = "the operator runs read-only"
        return draft.limited(draft.desired, Reason.READ_ONLY, message).unwritten()
    return draft


if TYPE_CHECKING:
    Limit: TypeAlias = Callable[[Situation, Draft], Draft]

#: The chain, in two parts; the module's docstring says why in this order. The first makes a wish of
#: what the policy proposes, the second holds it against the world.
WISHES: Final[tuple[Limit, ...]] = (
    persistence,
    release_window,
    cooldown,
    step_limits,
    zone_redundancy,
    runaway,
    at_least_scheduled,
)
CHAIN: Final[tuple[Limit, ...]] = (
    fleet_share,
    adopting,
    supply,
    gpu_shortage,
    rollout,
    lower_bound,
    no_data,
    hung_engine,
    contested,
    target_not_found,
    at_most_max,
    at_least_floor,
)


def wished(situation: Situation, draft: Draft) -> Draft:
    """The draft as the pool would have it, were it alone and every GPU there."""
    for limit in WISHES:
        draft = limit(situation, draft)
    return draft


def apply_limits(situation: Situation, draft: Draft, *, read_only: bool) -> Draft:
    """The wish after every limit of the world."""
    for limit in CHAIN:
        draft = limit(situation, draft)
    return permission(situation, draft, read_only=read_only)


def _no_reduction(situation: Situation, draft: Draft, reason: Reason, message: str) -> Draft:
    """Hold; and where the draft would have reduced, say so."""
    if draft.desired < situation.replicas:
        draft = draft.limited(situation.replicas, reason, message)
    return draft.held()
