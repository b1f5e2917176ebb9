"""The mean request, models and GPUs, from the flags of the plan commands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.plan.output import pairs
from spillway.core.profiles import GPUS, gpu_of, shape_of
from spillway.core.tco.load import require
from spillway.core.tco.rightsizing import Offer
from spillway.core.tokenmix import TokenMix

if TYPE_CHECKING:
    from spillway.core.profiles import ModelShape

_SHARES_SUM = 1e-6
_MARK = "="
#: For error messages.
EXAMPLE = "1000:0.7,8000:0.3"


def mean_request(
    prompt: float, output: float, cached_share: float = 0.0, contexts: str | None = None
) -> TokenMix:
    """The mean request and how far prompts scatter.

    Args:
        prompt: Mean prompt tokens; unused where ``contexts`` are given.
        output: Mean output tokens.
        cached_share: Share of the prompt that a prefix cache answers.
        contexts: ``TOKENS:SHARE,...`` as the flag ``--contexts`` takes them.

    Raises:
        NotPlannableError: A figure is out of range.
    """
    sigma = None
    if contexts is not None:
        found = spread(contexts)
        prompt = math.fsum(tokens * share for tokens, share in found)
        square = math.fsum(tokens * tokens * share for tokens, share in found)
        # The lognormal of the same mean and variance.
        sigma = math.sqrt(math.log(max(1.0, square / (prompt * prompt)))) if prompt > 0 else None
    require("prompt tokens of a request", prompt, above=0)
    require("output tokens of a request", output, least=1)
    require("the cached share of the prompt", cached_share, least=0, most=1)
    return TokenMix(prompt, output, cached_share * prompt, prompt_sigma=sigma)


def spread(contexts: str) -> list[tuple[float, float]]:
    """Pairs (tokens, share) of ``--contexts``; the command ends where their shares are not 1."""
    found = pairs(contexts, "--contexts", EXAMPLE)
    if abs(math.fsum(share for _, share in found) - 1) > _SHARES_SUM:
        fail(f"--contexts: shares must sum up to 1, got {contexts}", ExitCode.USAGE)
    return found


def known_shape(model: str) -> ModelShape:
    """The shape of a model by name and size; the command ends where it is not known."""
    shape = shape_of(model.lower())
    if shape is None:
        text = "must name a known model and its size, such as llama-3.1-8b"
        fail(f"--model: {text}, got {model}", ExitCode.USAGE)
    return shape


def offers(given: list[str]) -> list[Offer]:
    """The GPUs of ``--gpu NAME=PRICE``; the command ends where one is not known."""
    found = []
    for name, usd in named(given, "--gpu", "h100=3.5"):
        gpu = gpu_of(name.lower())
        if gpu is None:
            known = ", ".join(g.name for g in GPUS)
            fail(f"--gpu: must be one of {known}, got {name}", ExitCode.USAGE)
        if usd <= 0:
            fail(f"--gpu {name}: must cost more than 0, got {usd:g}", ExitCode.USAGE)
        found.append(Offer(gpu, usd))
    return found


def named(given: list[str], flag: str, example: str) -> list[tuple[str, float]]:
    """Pairs of flags such as ``h100=3.5``; anything else ends the command."""
    found = []
    for text in given:
        name, mark, figure = text.partition(_MARK)
        try:
            value = float(figure)
        except ValueError:
            value = float("nan")
        if not name or not mark or not abs(value) < float("inf"):
            fail(
                f"{flag}: must be a name and a number such as {example}, got {text}", ExitCode.USAGE
            )
        found.append((name, value))
    return found
