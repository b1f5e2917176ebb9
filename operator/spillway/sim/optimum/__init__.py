"""The clairvoyant optimum: what a load would have cost whoever had known all of it beforehand.

It comes as two figures. `Optimum.usd_lower` is a lower bound: no schedule costs less that keeps
the promise as often. `Optimum.usd_plan` is what one schedule costs that does. Their gap is what
is not known.

Two limits hold for a whole run: at most 1 - attainment of the requests may fail, and work that
is put off must be done by some replica at some time. A third joins each step to the next: what
is in flight at the end of one is there at the begin of the other. With a price for each of them,
whatever the prices are, what is left to minimise is a cost for every step that is convex in its
replicas (`step_cost`) plus that of changes; `replica_plan` does that exactly, and what comes
out, less what the limits are worth at these prices, is a lower bound (Lagrangian relaxation,
weak duality). What is exact, what is a bound and why: docs/design/optimum.md.
"""

from spillway.sim.optimum.problem import Problem
from spillway.sim.optimum.solve import Optimum, optimum
from spillway.sim.optimum.step_cost import Prices, Regime
from spillway.sim.optimum.world import as_result, coarser, problem_from

__all__ = [
    "Optimum",
    "Prices",
    "Problem",
    "Regime",
    "as_result",
    "coarser",
    "optimum",
    "problem_from",
]
