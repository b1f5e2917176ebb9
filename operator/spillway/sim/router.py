"""A gateway before simulated replicas: least requests first, and what may not stay goes away."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spillway.sim.burst_order import FIRST_LEAVE
from spillway.sim.replica import Replica
from spillway.sim.scaler import BurstActuator

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from spillway.sim.profiles import ReplicaProfile
    from spillway.sim.request import Request, Stream
    from spillway.sim.setting import Phase


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """Sums of engines' counters.

    Attributes:
        output_tokens: Sent.
        steps: That sent a token.
        busy_seconds: Spent in steps.
    """

    output_tokens: float = 0.0
    steps: float = 0.0
    busy_seconds: float = 0.0

    def plus(self, replica: Replica) -> EngineTotals:
        """With a replica's counters."""
        counters = replica.counters
        return EngineTotals(
            self.output_tokens + counters.generation_tokens,
            self.steps + counters.iteration_tokens.count,
            self.busy_seconds + replica.busy_seconds,
        )


class Router:
    """Deals requests out to ready replicas, in simulated time.

    Attributes:
        serving: Replicas that get requests.
        leaving: Replicas that only finish what they have.
        fraction: Share of arrivals that leaves; for `BurstActuator.FRACTION`.
        admit_in_flight: Bound on requests in flight; for `BurstActuator.ADMISSION`.
        finished: Requests that ended since this was emptied last.
    """

    def __init__(self, actuator: BurstActuator, *, blind: bool, rng: random.Random) -> None:
        self.serving: list[Replica] = []
        self.leaving: list[Replica] = []
        self.fraction = 0.0
        self.admit_in_flight = math.inf
        self.finished: list[Stream] = []
        self._actuator = actuator
        self._blind = blind
        self._rng = rng
        self._stranded: list[Request] = []
        self._turn = 0
        self._gone = EngineTotals()

    @property
    def in_flight(self) -> int:
        """Requests on serving replicas, and those that found none."""
        return sum(replica.in_flight for replica in self.serving) + len(self._stranded)

    @property
    def stranded(self) -> int:
        """Requests that found no replica."""
        return len(self._stranded)

    def resize(self, replicas: int, profile: ReplicaProfile, now: float) -> None:
        """Have so many serve: new ones idle, surplus ones with the fewest requests drained."""
        while len(self.serving) < replicas:
            self.serving.append(Replica(profile, now))
        if len(self.serving) > replicas:
            self.serving.sort(key=lambda replica: -replica.in_flight)
            self.leaving += self.serving[replicas:]
            del self.serving[replicas:]
        if self.serving and self._stranded:
            stranded, self._stranded = self._stranded, []
            for request in stranded:
                self.place(request, now)

    def interrupt(self, replicas: int, now: float) -> None:
        """Replicas vanish; their requests begin anew on others, still waiting since they came."""
        lost: list[Request] = []
        for replica in self.serving[:replicas]:
            lost += [stream.request for stream in replica.drop()]
            self._gone = self._gone.plus(replica)
        del self.serving[:replicas]
        for request in lost:
            self.place(request, now)

    def change_profile(self, profile: ReplicaProfile) -> None:
        """All replicas become faster or slower at their next step."""
        for replica in self.replicas():
            replica.profile = profile

    def replicas(self) -> Iterator[Replica]:
        """Serving and leaving ones."""
        yield from self.serving
        yield from self.leaving

    def advance(self, until: float) -> None:
        """Let all replicas run to a moment; those that have nothing left to finish go."""
        for replica in self.replicas():
            self.finished += replica.advance(until)
        for replica in self.leaving:
            if not replica.in_flight:
                self._gone = self._gone.plus(replica)
        self.leaving = [replica for replica in self.leaving if replica.in_flight]

    def totals(self) -> EngineTotals:
        """Counters of all engines since the run began, of those that are gone too."""
        totals = self._gone
        for replica in self.replicas():
            totals = totals.plus(replica)
        return totals

    def settle(self, now: float) -> None:
        """Let those replicas run to a moment whose steps end before it; the others stand still."""
        for replica in self.serving:
            if replica.due_at <= now:
                self.finished += replica.advance(now)

    def sends_away(self, request: Request, phase: Phase) -> bool:
        """Whether a request that has just come is to leave."""
        if self._actuator is BurstActuator.NONE:
            return False
        if self._actuator is BurstActuator.FRACTION:
            return self._rng.random() < self.fraction
        load, bound = self.in_flight, self.admit_in_flight
        if self._blind or load >= bound:
            return load >= bound
        first = FIRST_LEAVE * bound
        if load <= first:
            return False
        order = phase.order
        begin, end = order.ranks[bisect_right(order.edges, request.prompt_tokens)]
        rank = begin + self._rng.random() * (end - begin)
        return bool(rank < (load - first) / (bound - first))

    def place(self, request: Request, now: float) -> None:
        """Give a request to the replica with the fewest; equal ones take turns."""
        serving = self.serving
        if not serving:
            self._stranded.append(request)
            return
        count = len(serving)
        self._turn = (self._turn + 1) % count
        best = serving[self._turn]
        fewest = best.in_flight
        for replica in serving:
            load = replica.in_flight
            if load < fewest:
                best, fewest = replica, load
        best.submit(request, now)
