from __future__ import annotations

import pytest

from spillway.core.profiles import GENERIC_PROFILE, gpu_of, profile_of, shape_of

H100 = "NVIDIA-H100-80GB-HBM3"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def test_a_step_reads_the_weights_and_a_prompt_computes_them() -> None:
    found = profile_of(LLAMA, H100, 1)
    # 16.06 GB at 73.4 % of 3.35 TB/s, 32 layers of 0.0322 ms and 0.12 ms.
    assert found.base == pytest.approx(6.53e-3 + 1.15e-3, rel=1e-2)
    # 2 * 8.03e9 FLOP at 60 % of 989 TFLOP/s; 131,072 bytes of KV at 51.36 % of 3.35 TB/s.
    assert found.per_prefill_token == pytest.approx(27.06e-6, rel=1e-3)
    assert found.per_context_token == pytest.approx(76.2e-9, rel=1e-3)
    # 90 % of 80 GB, less the weights and 2.5 GB.
    assert found.kv_tokens == pytest.approx((72e9 - 16.06e9 - 2.5e9) / 131_072)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (1024, 8192)


def test_more_gpus_split_the_work_up_to_a_node() -> None:
    one, four = profile_of(LLAMA, H100, 1), profile_of(LLAMA, H100, 4)
    assert four.per_prefill_token == pytest.approx(one.per_prefill_token / 4)
    # The layers' own time stays.
    assert one.base / 4 < four.base < one.base / 2
    sixteen, eight = profile_of(LLAMA, H100, 16), profile_of(LLAMA, H100, 8)
    assert (sixteen.base, sixteen.per_prefill_token) == (eight.base, eight.per_prefill_token)
    assert (sixteen.kv_tokens or 0) > 1.9 * (eight.kv_tokens or 0)


@pytest.mark.parametrize(
    ("name", "base_share", "prefill_share"),
    [("-FP8", 0.57, 0.5), ("-AWQ", 0.38, 1.0), ("-GPTQ-Int4", 0.38, 1.0), ("-INT8", 0.57, 0.5)],
)
def test_fewer_bits_are_read_faster_and_computed_faster_where_the_gpu_can(
    name: str, base_share: float, prefill_share: float
) -> None:
    full, small = profile_of(LLAMA, H100, 1), profile_of(LLAMA + name, H100, 1)
    assert small.base / full.base == pytest.approx(base_share, abs=0.02)
    assert small.per_prefill_token / full.per_prefill_token == pytest.approx(
        prefill_share, abs=0.01
    )
    assert (small.kv_tokens or 0) > (full.kv_tokens or 0)


def test_a_model_that_does_not_fit_is_taken_to_be_on_as_many_gpus_as_hold_it() -> None:
    assert profile_of("Llama-3.3-70B", H100, 1).source.endswith("on 4 x H100")
    assert profile_of("Llama-3.3-70B", H100, 4) == profile_of("Llama-3.3-70B", H100, 1)


@pytest.mark.parametrize(
    ("model", "billions", "layers", "active"),
    [
        ("meta-llama/llama-3.1-8b-instruct", 8.03, 32, None),
        ("meta-llama/llama-2-7b-chat-hf", 6.74, 32, None),
        ("meta-llama/llama-3.1-405b-instruct-fp8", 405.9, 126, None),
        ("qwen/qwen2.5-7b-instruct-awq", 7.62, 28, None),
        ("qwen/qwen3-30b-a3b", 30.5, 48, 3.3),
        ("mistralai/mixtral-8x7b-v0.1", 46.7, 32, 12.9),
        ("openai/gpt-oss-120b", 116.8, 36, 5.1),
        # A size that no shape of the family has: the nearest one, with its own parameters.
        ("mistralai/mistral-small-24b", 24.0, 32, None),
        # A family that is not known: the nearest shape of any.
        ("tiiuae/falcon-40b", 40.0, 64, None),
    ],
)
def test_a_name_tells_the_shape(
    model: str, billions: float, layers: int, active: float | None
) -> None:
    shape = shape_of(model)
    assert shape is not None
    assert (shape.billions, shape.layers, shape.active_billions) == (billions, layers, active)


@pytest.mark.parametrize("model", ["m", "gpt-4", "mistralai/mixtral-8x22b", "some-9000b"])
def test_a_name_that_does_not_tell_has_no_shape(model: str) -> None:
    assert shape_of(model) is None
    assert profile_of(model, H100, 1) is GENERIC_PROFILE


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("nvidia-h100-80gb-hbm3", "h100"),
        ("nvidia-h100-pcie", "h100-pcie"),
        ("nvidia h200", "h200"),
        ("nvidia-a100-sxm4-80gb", "a100"),
        ("nvidia-a100-sxm4-40gb", "a100-sxm4-40gb"),
        ("nvidia-a10g", "a10g"),
        ("nvidia-l40s", "l40s"),
        ("nvidia-l4", "l4"),
        ("tesla-t4", "t4"),
    ],
)
def test_a_product_name_tells_the_gpu(product: str, name: str) -> None:
    gpu = gpu_of(product)
    assert gpu is not None
    assert gpu.name == name


def test_a_gpu_that_is_not_known_is_not_guessed() -> None:
    assert gpu_of("nvidia-l400x") is None
    assert profile_of(LLAMA, "NVIDIA-L400X", 1) is GENERIC_PROFILE
    assert profile_of(LLAMA, None, 1) is GENERIC_PROFILE
