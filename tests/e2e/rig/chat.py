"""Chat completions on the wire, as the emulated engines and clouds answer and clients ask for them.

A request says in the field ``emulated`` how long its answer will be and how much of its prompt is
cached, which no client of a real server knows; gateways hand it on unread.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

PATH: Final = "/v1/chat/completions"
CHARACTERS_PER_TOKEN: Final = 4
_EVENT: Final = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
#: Begins every event but the last, ``data: [DONE]``.
EVENT_BEGINS: Final = b"data: {"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of one request, in tokens.

    Attributes:
        prompt: Of the prompt.
        output: Of the answer.
        cached: Of the prompt, answered by the prefix cache.
    """

    prompt: int
    output: int
    cached: int = 0


def body_of(model: str, lengths: Lengths) -> dict[str, Any]:
    """A request of these lengths, streamed, that asks for its usage."""
    content = "x" * (CHARACTERS_PER_TOKEN * lengths.prompt)
    return {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "emulated": {"output_tokens": lengths.output, "cached_tokens": lengths.cached},
        "messages": [{"role": "user", "content": content}],
    }


def lengths_of(body: Mapping[str, Any]) -> Lengths:
    """Read a request's lengths.

    Raises:
        KeyError: It is none of ours.
    """
    emulated = body["emulated"]
    characters = sum(len(each["content"]) for each in body["messages"])
    prompt = max(1, characters // CHARACTERS_PER_TOKEN)
    return Lengths(prompt, int(emulated["output_tokens"]), int(emulated["cached_tokens"]))


async def stream(
    request: web.Request,
    name: str,
    lengths: Lengths,
    first: Callable[[], Awaitable[None]],
    ended: Callable[[], Awaitable[None]],
) -> web.StreamResponse:
    """Answer: an event when the first token is there, the rest at the end, as many as tokens.

    So time to first token and mean time per token are the server's, and a long answer costs two
    writes.

    Args:
        request: To be answered.
        name: Who answers.
        lengths: Of the answer.
        first: Waits for the first token.
        ended: Waits from there to the last one.
    """
    await first()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(_EVENT)
    await ended()
    usage = {"prompt_tokens": lengths.prompt, "completion_tokens": lengths.output}
    last = json.dumps({"id": name, "choices": [], "usage": usage})
    end = f"data: {last}\n\ndata: [DONE]\n\n".encode()
    await response.write(_EVENT * (lengths.output - 1) + end)
    return response
