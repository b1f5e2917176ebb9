"""Measures the step of a decoder with Llama 3.1 8B's shape on a real GPU, as JSON.

Run: python bench/step_time_gpu.py > samples.json, then python bench/bench_step_time.py samples.json

It needs PyTorch and an NVIDIA GPU (on a CPU only ``--tiny``, to try the program), uses nothing of
Spillway, and is not part of ``make test``. Weights and KV cache are random: a step's time does not
depend on what they say. Each size is captured as a CUDA graph, so that launches cost what they cost
an engine, and timed with the device's events.

What it is not: an engine. There is no scheduler, no paged cache and no continuous batch, attention
is PyTorch's own, and sampling takes the most probable token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 4, 8, 16, 32, 64, 128, 192, 256)
CONTEXTS = (256, 512, 1024, 2048, 4096, 8192)
PROMPTS = (256, 512, 1024, 2048, 4096, 8192, 16384)
#: Timed groups of replays of each size: their median is the figure, their range the spread.
GROUPS = 5
#: A group is as many replays as take about this long.
GROUP_SECONDS = 0.12
#: Left of the GPU's memory for activations and graphs.
SPARE_BYTES = 9e9


@dataclass(frozen=True)
class Shape:
    """A decoder's configuration."""

    layers: int = 32
    width: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head: int = 128
    inner: int = 14336
    vocabulary: int = 128256

    @property
    def parameters(self) -> int:
        """All weights, embeddings and norms included."""
        attention = self.width * self.head * (2 * self.heads + 2 * self.kv_heads)
        block = attention + 3 * self.width * self.inner + 2 * self.width
        return self.layers * block + 2 * self.vocabulary * self.width + self.width

    @property
    def kv_bytes(self) -> int:
        """Of keys and values of a token, in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head * 2


TINY = Shape(layers=2, width=64, heads=4, kv_heads=2, head=16, inner=128, vocabulary=256)


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Root mean square normalisation."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position: ``x`` is [batch, heads, tokens, head], the angles [tokens, head / 2]."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def gate(x: torch.Tensor) -> torch.Tensor:
    """SwiGLU of the two halves of ``x``."""
    a, b = x.chunk(2, dim=-1)
    return functional.silu(a) * b


class Decoder:
    """Random weights and one KV cache that each size takes its view of."""

    def __init__(self, shape: Shape, device: str, cache_tokens: int, *, compiled: bool) -> None:
        self.shape, self.device = shape, device
        self.norm, self.rotate, self.gate = (
            (torch.compile(f, dynamic=True) for f in (norm, rotate, gate))
            if compiled
            else (norm, rotate, gate)
        )
        s = shape
        kinds = (
            ((s.heads + 2 * s.kv_heads) * s.head, s.width),
            (s.width, s.heads * s.head),
            (2 * s.inner, s.width),
            (s.width, s.inner),
        )
        self.blocks = [
            (*(self._random(*size) for size in kinds), self._ones(), self._ones())
            for _ in range(s.layers)
        ]
        self.embedding = self._random(s.vocabulary, s.width)
        self.head = self._random(s.vocabulary, s.width)
        self.last = self._ones()
        width = s.kv_heads * s.head
        self.cache = [
            tuple(self._random(cache_tokens, width, 1.0).view(-1) for _ in ("keys", "values"))
            for _ in range(s.layers)
        ]

    def _random(self, rows: int, columns: int, scale: float = 0.02) -> torch.Tensor:
        made = torch.empty(rows, columns, dtype=torch.bfloat16, device=self.device)
        return made.normal_(0.0, scale)

    def _ones(self) -> torch.Tensor:
        return torch.ones(self.shape.width, dtype=torch.bfloat16, device=self.device)

    def angles(self, start: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of positions from ``start`` on."""
        half = self.shape.head // 2
        rate = 500000.0 ** (-torch.arange(half, device=self.device) / half)
        angle = torch.arange(start, start + tokens, device=self.device)[:, None] * rate
        return angle.cos(), angle.sin()

    def decode(self, batch: int, context: int) -> Callable[[], torch.Tensor]:
        """A step of ``batch`` sequences, each of which reads ``context`` tokens."""
        s = self.shape
        ids = torch.randint(s.vocabulary, (batch, 1), device=self.device)
        angles = self.angles(context - 1, 1)
        size = batch * s.kv_heads * context * s.head
        views = [
            tuple(half[:size].view(batch, s.kv_heads, context, s.head) for half in pair)
            for pair in self.cache
        ]
        group = s.heads // s.kv_heads

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys, values = views[layer]
            keys[:, :, -1:] = k
            values[:, :, -1:] = v
            # Query heads of a group as rows of one query: keys are read once for all of them.
            rows = q.reshape(batch, s.kv_heads, group, s.head)
            return functional.scaled_dot_product_attention(rows, keys, values).reshape(batch, 1, -1)

        return lambda: self._step(ids, angles, attend)

    def prefill(self, prompt: int) -> Callable[[], torch.Tensor]:
        """A step that computes one prompt."""
        s = self.shape
        ids = torch.randint(s.vocabulary, (1, prompt), device=self.device)
        angles = self.angles(0, prompt)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            size = prompt * s.kv_heads * s.head
            for half, new in zip(self.cache[layer], (k, v), strict=True):
                half[:size].view(1, s.kv_heads, prompt, s.head).copy_(new)
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return out.transpose(1, 2).reshape(1, prompt, -1)

        return lambda: self._step(ids, angles, attend)

    def _step(
        self,
        ids: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attend: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        s = self.shape
        rows, tokens = ids.shape
        x = functional.embedding(ids, self.embedding)
        for layer, (qkv, out, up, down, first, second) in enumerate(self.blocks):
            mixed = functional.linear(self.norm(x, first), qkv).view(rows, tokens, -1, s.head)
            q, k, v = mixed.transpose(1, 2).split((s.heads, s.kv_heads, s.kv_heads), dim=1)
            q, k = self.rotate(q, *angles), self.rotate(k, *angles)
            x = x + functional.linear(attend(layer, q, k, v.contiguous()), out)
            x = x + functional.linear(self.gate(functional.linear(self.norm(x, second), up)), down)
        return functional.linear(self.norm(x[:, -1], self.last), self.head).argmax(-1)


def timed(step: Callable[[], torch.Tensor], device: str) -> list[float]:
    """Seconds of a step, one figure for each of `GROUPS` groups of replays."""
    if device == "cpu":
        step()
        times = []
        for _ in range(GROUPS):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        return times
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replays = max(2, int(GROUP_SECONDS / replayed(graph, 2)))
    times = [replayed(graph, replays) for _ in range(GROUPS)]
    graph.reset()
    torch.cuda.empty_cache()
    return times


def replayed(graph: torch.cuda.CUDAGraph, replays: int) -> float:
    """Seconds of one of so many replays."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(replays):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / replays


def row(times: list[float]) -> dict[str, float]:
    """Median, fastest and slowest of the groups, in milliseconds."""
    return {
        "ms": round(1e3 * statistics.median(times), 4),
        "ms_min": round(1e3 * min(times), 4),
        "ms_max": round(1e3 * max(times), 4),
    }


def main() -> int:
    """Measures all sizes that fit and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny decoder, to try the program")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        print("no GPU: only --tiny runs on a CPU", file=sys.stderr)
        return 2
    shape = TINY if options.tiny else Shape()
    memory = torch.cuda.mem_get_info()[0] if device == "cuda" else 12e9
    room = memory - SPARE_BYTES - 2 * shape.parameters
    cache_tokens = min(int(room / shape.kv_bytes), 850_000 if device == "cuda" else 10_000)
    torch.manual_seed(1)
    # Each batch of one and each layout is a variant of its own: none may fall back unseen.
    torch._dynamo.config.recompile_limit = 64  # noqa: SLF001 - has no public name
    with torch.inference_mode():
        decoder = Decoder(shape, device, cache_tokens, compiled=not options.eager)
        decode = []
        for context in CONTEXTS:
            for batch in BATCHES:
                if batch * context <= cache_tokens:
                    times = timed(decoder.decode(batch, context), device)
                    decode.append({"batch": batch, "context": context, **row(times)})
                    print(decode[-1], file=sys.stderr, flush=True)
        prefill = []
        for prompt in PROMPTS if device == "cuda" else PROMPTS[:3]:
            times = timed(decoder.prefill(prompt), device)
            prefill.append({"prompt": prompt, **row(times)})
            print(prefill[-1], file=sys.stderr, flush=True)
    found = {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
        "compiled": not options.eager,
        "parameters": shape.parameters,
        "groups": GROUPS,
        "decode": decode,
        "prefill": prefill,
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
