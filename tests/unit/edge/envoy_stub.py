"""Enough of Envoy's Lua to run the edge's scripts: handles with headers, bodies and calls."""

from __future__ import annotations

import json
from typing import Any

import lupa.luajit21 as luajit

_STUB = """
local function headers_of(values)
  local headers = {}
  function headers:get(name) return values[name] end
  function headers:add(name, value) values[name] = value end
  function headers:replace(name, value) values[name] = value end
  function headers:remove(name) values[name] = nil end
  return headers
end

local function buffer(text)
  local made = { text = text }
  function made:length() return #self.text end
  function made:getBytes(from, length) return self.text:sub(from + 1, from + length) end
  function made:setBytes(text) self.text = text end
  return made
end

function make_handle(values, body, chunks, now, answer, counts, metadata)
  local handle = { values = values, buffer = buffer(body), calls = {}, cleared = 0, now = now }
  function handle:headers() return headers_of(values) end
  function handle:body() return self.buffer end
  function handle:timestamp() return self.now end
  function handle:clearRouteCache() self.cleared = self.cleared + 1 end
  function handle:httpCall(cluster, sent, text)
    self.calls[#self.calls + 1] = text
    return answer()
  end
  function handle:respond(sent) self.responded = sent[":status"] end
  function handle:getCluster(name)
    return { numRequests = function() return counts(name) end,
             numPendingRequests = function() return 0 end }
  end
  function handle:streamInfo()
    return { dynamicMetadata = function() return {
      set = function(_, _, name, value) metadata[name] = value end,
      get = function() return metadata end,
    } end }
  end
  function handle:bodyChunks()
    local at = 0
    return function()
      at = at + 1
      return chunks[at] and buffer(chunks[at])
    end
  end
  return handle
end
"""


class Script:
    """One of the edge's scripts, as one worker runs it.

    Attributes:
        now: Milliseconds since the epoch.
        answer: What the operator answers: status and body.
        in_flight: Requests in flight by cluster.
        calls: What the operator was told, newest last.
    """

    def __init__(self, source: str) -> None:
        self._lua = luajit.LuaRuntime(unpack_returned_tuples=True)
        self._lua.execute(_STUB)
        self._lua.execute(source)
        self.now = 1_000_000
        self.answer: tuple[str, Any] = ("200", None)
        self.in_flight: dict[str, int] = {}
        self.calls: list[dict[str, Any]] = []

    def function(self, name: str) -> Any:
        """A global function of the script."""
        return self._lua.globals()[name]

    def request(self, headers: dict[str, str], body: Any = None) -> tuple[dict[str, str], Any]:
        """Run the request side; the headers as they are then, and the handle."""
        text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        return self._run("envoy_on_request", headers, text, [], {})

    def response(
        self, headers: dict[str, str], metadata: dict[str, Any], chunks: list[str] | None = None
    ) -> dict[str, Any]:
        """Run the response side of the request that noted ``metadata``; what is noted then."""
        _, handle = self._run("envoy_on_response", headers, "", chunks or [], metadata)
        return self.noted(handle)

    def route(self, headers: dict[str, str]) -> str:
        """Ask the cluster specifier."""
        _, handle = self._run(None, headers, "", [], {})
        return str(self.function("envoy_on_route")(handle))

    @staticmethod
    def noted(handle: Any) -> dict[str, Any]:
        """The stream's metadata."""
        info = handle.streamInfo(handle)
        return dict(info.dynamicMetadata().get())

    def _run(
        self,
        function: str | None,
        headers: dict[str, str],
        body: str,
        chunks: list[str],
        metadata: dict[str, Any],
    ) -> tuple[dict[str, str], Any]:
        values = self._lua.table_from(headers)
        handle = self.function("make_handle")(
            values,
            body,
            self._lua.table_from(chunks),
            self.now,
            self._answered,
            lambda name: self.in_flight.get(name, 0),
            self._lua.table_from(metadata),
        )
        if function is not None:
            self.function(function)(handle)
        self.calls += [json.loads(text) for text in handle.calls.values()]
        return {str(name): str(value) for name, value in values.items()}, handle

    def _answered(self) -> tuple[Any, str]:
        status, body = self.answer
        text = body if isinstance(body, str) else json.dumps(body)
        return self._lua.table_from({":status": status}), text
