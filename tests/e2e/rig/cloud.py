"""A paid API as emulated clients meet it: as many tokens as they ask for, at a pace of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.e2e.rig import chat
from tests.e2e.rig.model_servers import ModelServer

if TYPE_CHECKING:
    from aiohttp import web


@dataclass
class Cloud(ModelServer):
    """A provider that counts what it answers and what that costs.

    Attributes:
        first_token_seconds: Until the first token.
        per_token_seconds: Between two tokens.
        completion_tokens_sent: Of all answers.
    """

    first_token_seconds: float = 0.5
    per_token_seconds: float = 0.015
    completion_tokens_sent: int = 0

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        lengths = chat.lengths_of(body)
        rest = self.per_token_seconds * (lengths.output - 1)
        response = await chat.stream(
            request,
            self.name,
            lengths,
            partial(asyncio.sleep, self.first_token_seconds),
            partial(asyncio.sleep, rest),
        )
        self.answered += 1
        self.prompt_tokens += lengths.prompt
        self.completion_tokens_sent += lengths.output
        self.usd += (
            lengths.prompt * self.input_usd_per_million
            + lengths.output * self.output_usd_per_million
        ) / 1e6
        return response
