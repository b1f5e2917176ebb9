"""How fast an engine steps before anything was measured: by model, GPU, parallelism and precision.

No deployment was measured for these figures. They are what published simulators of LLM serving fit
(fixed and relative costs, `_*_EFFICIENCY` below), applied to published facts: a model's shape from
its configuration, a GPU's bandwidth, peak FLOP/s and memory from its maker's data sheet. The fits
are of 58 combinations of four dense models, four GPUs and 1 to 8 GPUs a replica; the formulas here
return them to three digits, and are an extrapolation beyond them.

    base      c0 = 0.12 ms + 0.0322 ms * layers + weight bytes / (0.734 * bandwidth)
    sequence  c1 = 4.4 us, sampling and bookkeeping, whatever the model
    context   c2 = KV bytes a token / (0.5136 * bandwidth)
    prefill   c3 = 2 * active parameters / (0.6 * peak FLOP/s)
    pair      c3 * 2 * layers * attention width / active parameters

The last is the part of prefill that grows with the square of the prompt: a (query, key) pair costs
4 * layers * width FLOP (QK^T and AV, a multiply and an add each), a token 2 * parameters (Kaplan et
al. 2020, arXiv:2001.08361, table 1).

GPUs beyond those that a node of eight has are taken to be pipeline stages or data-parallel ranks:
they add room for the KV cache and no speed, which is on the slow side. Mixtures of experts read all
experts in a step (a batch of some dozens touches nearly all) and compute with the active ones.
Weights of 8 bits compute at the GPU's rate for 8 bits where it has one; 4-bit weights (AWQ, GPTQ)
are computed in 16 bits. The KV cache is taken to be of 16 bits.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from spillway.core.values import dataclass, replace

#: Fixed time of a step (launches, sampling, the scheduler) and of each layer in it.
_STEP_SECONDS: Final = 0.12e-3
_LAYER_SECONDS: Final = 0.0322e-3
_SEQUENCE_SECONDS: Final = 4.4e-6
#: Shares of the data sheets' figures that are reached: reading weights, reading KV, computing.
_WEIGHTS_EFFICIENCY: Final = 0.734
_KV_EFFICIENCY: Final = 0.5136
_FLOP_EFFICIENCY: Final = 0.6
#: vLLM's default gpu_memory_utilization, and what activations and graphs take of each GPU.
_MEMORY_SHARE: Final = 0.9
_RESERVED_BYTES: Final = 2.5e9
_KV_BYTES: Final = 2.0
_NODE_GPUS: Final = 8
#: ``EngineArgs.get_batch_defaults`` of vLLM: from 70 GiB of memory on, A100 excepted.
_LARGE_GPU_BYTES: Final = 70 * 2**30
LARGE_GPU_LIMITS: Final = (1024, 8192)
SMALL_GPU_LIMITS: Final = (256, 2048)
#: Beyond this ratio of sizes the nearest known shape says nothing of a model.
_FARTHEST_SHAPE: Final = 4.0


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """Cost of a step and bounds of a batch, of one replica.

    Attributes:
        base: Seconds of every step (c0).
        per_sequence: Seconds for each sequence in the batch (c1).
        per_context_token: Seconds for each token of context that a sequence reads (c2).
        per_prefill_token: Seconds for each prompt token that is computed (c3).
        per_attention_pair: Seconds for each (query, key) pair of a prompt that is computed.
        kv_tokens: Tokens that the KV cache holds; None where that is not known.
        max_num_seqs: Most sequences in a step.
        max_num_batched_tokens: Most tokens computed in a step.
        source: Where the figures are from, for a person; "" for the generic assumption.
    """

    base: float
    per_sequence: float
    per_context_token: float
    per_prefill_token: float
    per_attention_pair: float = 0.0
    kv_tokens: float | None = None
    max_num_seqs: int = LARGE_GPU_LIMITS[0]
    max_num_batched_tokens: int = LARGE_GPU_LIMITS[1]
    source: str = ""

    @property
    def tokens_per_pair(self) -> float:
        """Cost of a (query, key) pair as a share of that of a token."""
        return self.per_attention_pair / self.per_prefill_token


#: An assumption for any model on any GPU, on purpose on the slow side: too little capacity costs
#: some idle GPU until the first real batches are seen, too much costs the latency promise. Its pair
#: term is that of a model of 8 billion parameters; its bounds are the large GPUs', because a bound
#: that is not there can't be unlearned.
GENERIC_PROFILE: Final = EngineProfile(
    base=0.020,
    per_sequence=1e-4,
    per_context_token=4e-8,
    per_prefill_token=6e-5,
    per_attention_pair=6e-5 * 3.26e-5,
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model's published configuration.

    Attributes:
        family: Part of its name, lower case.
        billions: Parameters, in billions.
        layers: Transformer blocks.
        attention_width: Query heads times head dimension.
        kv_width: Key-value heads times head dimension.
        active_billions: Parameters that a token passes, where not all.
    """

    family: str
    billions: float
    layers: int
    attention_width: int
    kv_width: int
    active_billions: float | None = None

    @property
    def tokens_per_pair(self) -> float:
        """FLOP of a (query, key) pair as a share of those of a token."""
        active = (self.active_billions or self.billions) * 1e9
        return 2 * self.layers * self.attention_width / active

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of keys and values that a token holds, in 16 bits."""
        return 2 * self.layers * self.kv_width * _KV_BYTES


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's data sheet: dense 16-bit and 8-bit FLOP/s, bytes/s and bytes of memory.

    ``name`` is a part of what the node label nvidia.com/gpu.product says, lower case.
    """

    name: str
    flops: float
    flops_8bit: float
    bandwidth: float
    memory: float

    @property
    def room(self) -> float:
        """Bytes that weights and KV cache share."""
        return self.memory * _MEMORY_SHARE - _RESERVED_BYTES

    @property
    def limits(self) -> tuple[int, int]:
        """Defaults of vLLM for max_num_seqs and max_num_batched_tokens."""
        large = self.memory >= _LARGE_GPU_BYTES and not self.name.startswith("a100")
        return LARGE_GPU_LIMITS if large else SMALL_GPU_LIMITS


def _gpu(name: str, tflops: float, tflops_8bit: float, tb_per_second: float, gb: float) -> Gpu:
    return Gpu(name, tflops * 1e12, tflops_8bit * 1e12, tb_per_second * 1e12, gb * 1e9)


#: From config.json of the published checkpoints (hidden layers, heads, key-value heads, head_dim)
#: and their model cards (parameters). Larger families of a maker come first.
MODELS: Final = (
    ModelShape("llama", 1.24, 16, 2048, 512),
    ModelShape("llama", 3.21, 28, 3072, 1024),
    ModelShape("llama-2", 6.74, 32, 4096, 4096),
    ModelShape("llama", 8.03, 32, 4096, 1024),
    ModelShape("llama-2", 13.0, 40, 5120, 5120),
    ModelShape("llama", 70.6, 80, 8192, 1024),
    ModelShape("llama", 405.9, 126, 16384, 1024),
    ModelShape("mistral", 7.25, 32, 4096, 1024),
    ModelShape("mixtral-8x7b", 46.7, 32, 4096, 1024, 12.9),
    ModelShape("qwen2.5", 0.49, 24, 896, 128),
    ModelShape("qwen2.5", 1.54, 28, 1536, 256),
    ModelShape("qwen2.5", 3.09, 36, 2048, 256),
    ModelShape("qwen2.5", 7.62, 28, 3584, 512),
    ModelShape("qwen2.5", 14.8, 48, 5120, 1024),
    ModelShape("qwen2.5", 32.8, 64, 5120, 1024),
    ModelShape("qwen2.5", 72.7, 80, 8192, 1024),
    ModelShape("qwen3", 4.02, 36, 4096, 1024),
    ModelShape("qwen3", 8.19, 36, 4096, 1024),
    ModelShape("qwen3", 14.8, 40, 5120, 1024),
    ModelShape("qwen3", 32.8, 64, 8192, 1024),
    ModelShape("qwen3", 30.5, 48, 4096, 512, 3.3),
    ModelShape("qwen3", 235.0, 94, 8192, 512, 22.0),
    ModelShape("gpt-oss", 20.9, 24, 4096, 512, 3.6),
    ModelShape("gpt-oss", 116.8, 36, 4096, 512, 5.1),
    ModelShape("gemma-2", 9.24, 42, 4096, 2048),
    ModelShape("gemma-3", 27.4, 62, 4096, 2048),
    ModelShape("phi-4", 14.7, 40, 5120, 1280),
)

#: From the makers' data sheets, dense (without sparsity). 8-bit FLOP/s equal the 16-bit ones where
#: the GPU has no faster 8-bit units that vLLM's weight formats use. More special names come first.
GPUS: Final = (
    _gpu("h100-pcie", 756, 1513, 2.0, 80),
    _gpu("h100-nvl", 835, 1671, 3.9, 94),
    _gpu("h100", 989, 1979, 3.35, 80),
    _gpu("h200", 989, 1979, 4.8, 141),
    _gpu("h20", 148, 296, 4.0, 96),
    _gpu("b200", 2250, 4500, 8.0, 180),
    _gpu("a100-sxm4-40gb", 312, 312, 1.555, 40),
    _gpu("a100-pcie-40gb", 312, 312, 1.555, 40),
    _gpu("a100-80gb-pcie", 312, 312, 1.935, 80),
    _gpu("a100", 312, 312, 2.039, 80),
    _gpu("a10g", 70, 70, 0.6, 24),
    _gpu("a10", 125, 125, 0.6, 24),
    _gpu("l40s", 362, 733, 0.864, 48),
    _gpu("l40", 181, 362, 0.864, 48),
    _gpu("l4", 121, 242, 0.3, 24),
    _gpu("t4", 65, 65, 0.32, 16),
    _gpu("mi300x", 1307, 2615, 5.3, 192),
)

#: (part of a model's name, bytes a weight, whether it computes in 8 bits). Four-bit formats carry
#: scales: 4.25 bits at the usual group of 128 (AWQ, GPTQ) or 32 (MXFP4).
_PRECISIONS: Final = (
    (re.compile(r"awq|gptq|int4|w4a16|4bit|mxfp4|gpt-oss"), 4.25 / 8, False, "4-bit weights"),
    (re.compile(r"fp8|w8a8|int8|8bit"), 1.0, True, "8-bit weights"),
)
#: 8B, 1.5b, 8x7B, 30B-A3B; not the 3 of Llama-3 and not the 4 of 4bit.
_SIZE: Final = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)b(?:-a(\d+(?:\.\d+)?)b)?(?![a-z0-9])")


def profile_of(model: str, gpu: str | None, gpus: int) -> EngineProfile:
    """The table's entry, or `GENERIC_PROFILE` where the model or the GPU is not known.

    Args:
        model: The model's name, with or without its maker; tells family, size and precision.
        gpu: Product name, as ``spec.variants[].accelerator.type`` has it.
        gpus: GPUs of a replica, all pods of it together.
    """
    return _profile_of(model.lower(), (gpu or "").lower(), gpus)


@lru_cache(maxsize=4096)
def _profile_of(model: str, gpu: str, gpus: int) -> EngineProfile:
    shape, device = shape_of(model), gpu_of(gpu)
    if shape is None or device is None:
        return GENERIC_PROFILE
    bytes_per_weight, eight_bits, precision = 2.0, False, "16-bit weights"
    for pattern, size, eight, name in _PRECISIONS:
        if pattern.search(model):
            bytes_per_weight, eight_bits, precision = size, eight, name
            break
    return engine_profile(
        shape, device, gpus, bytes_per_weight, eight_bits=eight_bits, precision=precision
    )


def engine_profile(
    shape: ModelShape,
    gpu: Gpu,
    gpus: int,
    bytes_per_weight: float = 2.0,
    *,
    eight_bits: bool = False,
    precision: str = "16-bit weights",
) -> EngineProfile:
    """The formulas of the module. Weights that do not fit are taken to be on as many GPUs as do.

    Args:
        shape: The model.
        gpu: The GPU.
        gpus: How many a replica has.
        bytes_per_weight: 2 for 16 bits.
        eight_bits: Whether it computes in 8 bits.
        precision: For the source.
    """
    weights = shape.billions * 1e9 * bytes_per_weight
    room = gpu.room
    while room * gpus <= weights:
        gpus *= 2
    parallel = min(gpus, _NODE_GPUS)
    active = (shape.active_billions or shape.billions) * 1e9
    flops = (gpu.flops_8bit if eight_bits else gpu.flops) * _FLOP_EFFICIENCY * parallel
    prefill = 2 * active / flops
    seqs, tokens = gpu.limits
    weights_rate = gpu.bandwidth * _WEIGHTS_EFFICIENCY * parallel
    return EngineProfile(
        base=_STEP_SECONDS + _LAYER_SECONDS * shape.layers + weights / weights_rate,
        per_sequence=_SEQUENCE_SECONDS,
        per_context_token=shape.kv_bytes_per_token / (gpu.bandwidth * _KV_EFFICIENCY * parallel),
        per_prefill_token=prefill,
        per_attention_pair=prefill * shape.tokens_per_pair,
        kv_tokens=(room * gpus - weights) / shape.kv_bytes_per_token,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        source=f"{shape.billions:g}B parameters, {precision}, on {gpus} x {gpu.name.upper()}",
    )


def shape_of(model: str) -> ModelShape | None:
    """The shape of a model by its name (lower case); None where its size can't be told.

    A size that no known model of the family has takes the shape of the nearest one, scaled.
    """
    sizes = [tuple(float(part or 0) for part in found) for found in _SIZE.findall(model)]
    named = [shape for shape in MODELS if shape.family in model]
    if not sizes:
        return None
    experts, billions, active = sizes[-1]
    if experts:
        # The name gives the size of an expert, not of the model.
        return next((shape for shape in named if "x" in shape.family), None)
    pool = [
        shape
        for shape in named or MODELS
        if (shape.active_billions is not None) == (active > 0 or "gpt-oss" in model)
    ]
    # The most special name wins a tie: llama-2 before llama.
    best = min(
        pool,
        key=lambda s: (round(_apart(s.billions, billions), 1), -len(s.family)),
        default=None,
    )
    if best is None or _apart(best.billions, billions) > _FARTHEST_SHAPE:
        return None
    if _apart(best.billions, billions) < _SAME_SIZE:
        return best
    return replace(best, billions=billions, active_billions=active or None)


#: 8B is 8.03 billion parameters and 7B may be 7.62.
_SAME_SIZE: Final = 1.13


def _apart(a: float, b: float) -> float:
    return max(a / b, b / a) if b > 0 else float("inf")


def gpu_of(product: str) -> Gpu | None:
    """The GPU of a product name (lower case); None where it is not known."""
    name = re.sub(r"[\s_]+", "-", product)
    for gpu in GPUS:
        # Whole words: an L40S is no L4, and an A100 no A10.
        if re.search(rf"(?<![a-z0-9]){re.escape(gpu.name)}(?![a-z0-9])", name):
            return gpu
    return None
