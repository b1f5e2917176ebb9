"""Servers that speak as a model server does and count what they are asked: replicas and clouds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass
class Together:
    """Requests in flight at several servers together.

    Attributes:
        in_flight: Now.
        peak: Most at once.
    """

    in_flight: int = 0
    peak: int = 0

    def add(self, change: int) -> None:
        """Count one more or one less."""
        self.in_flight += change
        self.peak = max(self.peak, self.in_flight)


@dataclass
class ModelServer:
    """Answers chat completions after a while, whole or as a stream, with the engine's ``usage``.

    Attributes:
        name: What it calls itself in answers.
        host: Where it listens.
        port: Likewise; 0 is any that is free.
        seconds: How long an answer takes.
        completion_tokens: Of each answer.
        characters_per_token: Of prompts.
        status: Answered instead of 200.
        headers: Sent with every answer.
        input_usd_per_million: Price, for clouds.
        output_usd_per_million: Likewise.
        keep_bodies: Whether to keep what it was sent.
        bodies: Headers and body of each request, refused ones included.
        marks: Requests of these that were marked to stay.
        answered: Requests answered 200.
        refused: Requests answered otherwise.
        together: Counts what is in flight, here and at other servers that have the same one.
        prompt_tokens: Of the answered ones.
        usd: What they cost.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    seconds: float = 0.0
    completion_tokens: int = 20
    characters_per_token: int = 4
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    input_usd_per_million: float = 10.0
    output_usd_per_million: float = 30.0
    keep_bodies: bool = False
    bodies: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    marks: int = 0
    answered: int = 0
    refused: int = 0
    together: Together = field(default_factory=Together)
    prompt_tokens: int = 0
    usd: float = 0.0
    _runner: web.AppRunner | None = None

    async def start(self) -> Self:
        """Listen; a port of 0 becomes the one that was free."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        # As engines do: a client that hangs up ends its request.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def stop(self) -> None:
        """Stop listening; what is in flight is cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.name}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text)
        self.marks += "x-spillway-stay" in request.headers or "marked" in text
        if self.keep_bodies:
            self.bodies.append((dict(request.headers), body))
        if self.status != 200:
            self.refused += 1
            return web.json_response({"error": self.name}, status=self.status, headers=self.headers)
        self.together.add(1)
        try:
            return await self._answer(request, body)
        except ConnectionResetError:
            # A stream that nobody reads any more.
            return web.Response(status=499)
        finally:
            self.together.add(-1)

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = sum(len(each["content"]) for each in body["messages"]) // self.characters_per_token
        usage = {"prompt_tokens": prompt, "completion_tokens": self.completion_tokens}
        if body.get("stream"):
            response = await self._stream(request, usage)
        else:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            said = {"role": "assistant", "content": "words"}
            choice = {"index": 0, "message": said, "finish_reason": "stop"}
            answer = {"id": self.name, "object": "chat.completion", "choices": [choice]}
            response = web.json_response({**answer, "usage": usage})
        self.answered += 1
        self.prompt_tokens += prompt
        self.usd += (
            prompt * self.input_usd_per_million
            + self.completion_tokens * self.output_usd_per_million
        ) / 1e6
        return response

    async def _stream(self, request: web.Request, usage: dict[str, int]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {"id": self.name, "object": "chat.completion.chunk"}
        for number in range(1, self.completion_tokens + 1):
            await asyncio.sleep(self.seconds / self.completion_tokens)
            ended = "stop" if number == self.completion_tokens else None
            choice = {"index": 0, "delta": {"content": "word"}, "finish_reason": ended}
            await response.write(_event({**chunk, "choices": [choice]}))
        await response.write(_event({**chunk, "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
