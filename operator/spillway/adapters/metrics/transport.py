"""The HTTP session below prometheus-api-client: answers in full, in time, in bounds, or an error.

prometheus-api-client takes ``data.result`` out of an answer and drops the rest. Thanos says in that
rest (``warnings``) that a store did not answer and the result is partial; half of the replicas
would then look gone. So the raw answer is looked at here, before the client sees it.
"""

from __future__ import annotations

import io
import threading
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from pydantic_core import from_json
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from requests import PreparedRequest

_CHUNK_BYTES = 256 * 1024


class AnswerError(Exception):
    """Prometheus answered, but not with something that may be acted on."""


class PartialAnswerError(AnswerError):
    """The answer carries warnings: it may lack series (Thanos partial response)."""


class CheckedResponse(requests.Response):
    """An answer that was read in full, whose JSON is refused when it is not a complete success.

    Args:
        original: The answer.
        body: Its body.
        turn: Held while the body is parsed.
    """

    def __init__(self, original: requests.Response, body: bytes, turn: threading.Lock) -> None:
        super().__init__()
        self._turn = turn
        self.status_code = original.status_code
        self.headers = original.headers
        self.reason = original.reason
        self.url = original.url
        self.request = original.request
        self.encoding = "utf-8"
        self.raw = io.BytesIO(body)

    def json(self, **_: Any) -> Any:
        """The answer's JSON.

        Whatever parses holds the interpreter's lock from the first byte to the last, so that the
        event loop stands still for the megabytes of ten thousand pods, query after query.
        pydantic's parser takes less of it than Python's own (bench/bench_loop.py has the time).

        Raises:
            PartialAnswerError: It carries warnings.
            AnswerError: It is no answer of Prometheus' query API, or not a success.
        """
        try:
            with self._turn:
                payload = from_json(self.content)
        except ValueError as error:
            msg = "the answer is not JSON; is this the address of a Prometheus API?"
            raise AnswerError(msg) from error
        if not isinstance(payload, dict) or payload.get("status") != "success":
            detail = payload.get("error") if isinstance(payload, dict) else None
            msg = f"the answer is not a success: {str(detail)[:200]}"
            raise AnswerError(msg)
        if payload.get("warnings"):
            msg = f"partial answer: {str(payload['warnings'])[:200]}"
            raise PartialAnswerError(msg)
        data = payload.get("data")
        kind = "matrix" if urlsplit(self.url).path.endswith("/query_range") else "vector"
        if not isinstance(data, dict) or data.get("resultType") != kind:
            msg = f"the answer holds no {'range' if kind == 'matrix' else 'instant'} vector"
            raise AnswerError(msg)
        return payload


def _ahead_seconds(date: str, now: float) -> float:
    """How far an HTTP date is ahead of ``now``; 0 for one that can't be read.

    The date was cut to a second and has travelled, so the clock is ahead by this at least.
    """
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


class BoundedSession(requests.Session):
    """A session whose requests end: by a deadline for the whole answer, and by a size.

    requests' own timeout is for each read of the socket, so an answer that drips never runs into
    it. Redirects are not followed: credentials go to the configured address alone.

    Args:
        seconds: Longest time from sending to the last byte.
        max_bytes: Longest body, decompressed.

    Attributes:
        ahead_seconds: How far the clock that dated the last answer is ahead of this machine's, at
            least; below zero where it is not ahead, 0 where the answer had no date.
    """

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        super().__init__()
        self.ahead_seconds = 0.0
        self._seconds = seconds
        self._max_bytes = max_bytes
        # Threads that compute take turns with the event loop's: six at once would leave it a
        # seventh of the time.
        self._turn = threading.Lock()

    def send(self, request: PreparedRequest, **kwargs: Any) -> requests.Response:
        """Sends and reads the answer in full.

        Raises:
            requests.RequestException: It could not be sent or did not come in time.
            AnswerError: It is too long.
        """
        deadline = time.monotonic() + self._seconds
        kwargs.update(stream=True, allow_redirects=False)
        with closing(super().send(request, **kwargs)) as response:
            self.ahead_seconds = _ahead_seconds(response.headers.get("Date", ""), time.time())
            try:
                return CheckedResponse(response, self._read(response, deadline), self._turn)
            except HTTPError as error:
                raise requests.ConnectionError(error) from error

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        # read1 returns what is there; read would wait for a full chunk.
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                msg = f"the answer is longer than {self._max_bytes} bytes"
                raise AnswerError(msg)
            if time.monotonic() > deadline:
                msg = f"the answer was not complete within {self._seconds:g} s"
                raise requests.Timeout(msg)
        return bytes(body)
