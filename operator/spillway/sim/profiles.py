"""How fast a simulated replica steps and how much it holds: presets by model, GPU and parallelism.

The figures are those of the built-in table (`spillway.core.profiles`, which says where each is
from), and the scheduler's limits are vLLM's defaults for the GPU. They are what the simulated world
is made of, not measurements of any deployment; an operator in that world does not know which of
them it runs on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from spillway.core.profiles import engine_profile, gpu_of, shape_of

BLOCK_TOKENS: Final = 16
"""Tokens in a KV block; vLLM's default ``block_size``."""


@dataclass(frozen=True, slots=True)
class ReplicaProfile:
    """Constants of one replica.

    Attributes:
        name: What presets call it.
        gpu: Product name as DCGM reports it in ``modelName``.
        gpus: GPUs of the replica.
        base_seconds: Fixed time of a step.
        per_sequence_seconds: Added per sequence in the step.
        per_context_token_seconds: Added per token of context that a decode reads.
        per_prefill_token_seconds: Added per prompt token computed.
        per_attention_pair_seconds: Added per (query, key) pair of a prefill chunk, which makes long
            prompts cost more than in proportion.
        kv_capacity_tokens: Tokens that the KV cache holds.
        max_num_seqs: Most sequences in a step.
        max_num_batched_tokens: Most tokens computed in a step, prefill and decode together.
    """

    name: str
    gpu: str
    gpus: int
    base_seconds: float
    per_sequence_seconds: float
    per_context_token_seconds: float
    per_prefill_token_seconds: float
    per_attention_pair_seconds: float
    kv_capacity_tokens: int
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048

    def __post_init__(self) -> None:
        """Refuse constants that would stop time or hold nothing."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in {"name", "gpu"}:
                continue
            least = {"kv_capacity_tokens": BLOCK_TOKENS}.get(
                item.name, 1 if isinstance(value, int) else 0
            )
            if value < least:
                msg = f"{item.name} must be at least {least}, got {value}"
                raise ValueError(msg)
        if self.base_seconds == 0:
            msg = "base_seconds must be above 0: a step takes time"
            raise ValueError(msg)

    @property
    def kv_blocks(self) -> int:
        """KV blocks of the replica."""
        return self.kv_capacity_tokens // BLOCK_TOKENS


_H100: Final = "NVIDIA H100 80GB HBM3"
_H200: Final = "NVIDIA H200"
_A100: Final = "NVIDIA A100-SXM4-80GB"
_L40S: Final = "NVIDIA L40S"


def _preset(name: str, model: str, gpu: str, gpus: int) -> ReplicaProfile:
    shape, device = shape_of(model), gpu_of(gpu.lower())
    if shape is None or device is None:
        msg = f"preset {name}: the built-in table has no {model} on {gpu}"
        raise LookupError(msg)
    engine = engine_profile(shape, device, gpus)
    return ReplicaProfile(
        name=name,
        gpu=gpu,
        gpus=gpus,
        base_seconds=engine.base,
        per_sequence_seconds=engine.per_sequence,
        per_context_token_seconds=engine.per_context_token,
        per_prefill_token_seconds=engine.per_prefill_token,
        per_attention_pair_seconds=engine.per_attention_pair,
        kv_capacity_tokens=int(engine.kv_tokens or 0),
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
    )


PROFILES: Final = {
    profile.name: profile
    for profile in (
        _preset("llama-3.1-8b-h100", "llama-3.1-8b", _H100, 1),
        _preset("llama-3.1-8b-h200", "llama-3.1-8b", _H200, 1),
        _preset("llama-3.1-8b-a100", "llama-3.1-8b", _A100, 1),
        _preset("llama-3.1-8b-l40s", "llama-3.1-8b", _L40S, 1),
        _preset("qwen3-14b-l40s", "qwen3-14b", _L40S, 1),
        _preset("llama-3.3-70b-h100x4", "llama-3.3-70b", _H100, 4),
    )
}
"""Built-in profiles by name."""


def profile_named(name: str) -> ReplicaProfile:
    """The built-in profile of that name.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    try:
        return PROFILES[name]
    except KeyError:
        msg = f"profile must be one of {', '.join(PROFILES)}, got {name!r}"
        raise ValueError(msg) from None
