"""What failed attempts cost: more attempts against the rate limits, and those that are billed.

A layer that retries a failed attempt up to R times makes on the mean

    A = (1 - p^(R+1)) / (1 - p)

attempts of each request, where p is the share of attempts that fail, and passes a failure on with
the share p^(R+1). The layer above it (a gateway over a client library, an agent over the gateway)
retries what is passed on, so attempts multiply: 3 layers of 2 retries make up to 27 of one request.

Attempts that fail independently of each other are the kind case: in an outage all of them fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def attempts_per_request(error_share: float, retries: Iterable[int]) -> float:
    """Mean attempts of a request over all layers, at least 1.

    Args:
        error_share: p, the share of single attempts that fail, 0 to 1.
        retries: R of each layer, the one next to the provider first.
    """
    total, failing = 1.0, error_share
    for most in retries:
        total *= most + 1.0 if failing >= 1 else (1 - failing ** (most + 1)) / (1 - failing)
        failing **= most + 1
    return total


def billed_per_answer(error_share: float, billed_error_share: float) -> float:
    """What an answer costs, over the price of one attempt; at least 1.

    Of the attempts A of a request A p fail, and A (1 - p) = 1 - p^(R+1) is the share that is
    answered: so each answer carries p / (1 - p) failures with it, however many retries there are.

    Args:
        error_share: p, below 1.
        billed_error_share: Share of the failed attempts that is billed, 0 to 1.
    """
    return 1 + billed_error_share * error_share / (1 - error_share)
