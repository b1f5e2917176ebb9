"""Price files: what is read, what is refused and how it is said, and what follows a change."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.prices import PriceFileError, PriceFiles, read_catalog, read_price_map
from spillway.api.inferencepool import CapacityType
from spillway.api.timestamps import parse_time

if TYPE_CHECKING:
    from pathlib import Path

CATALOG = """
accelerators:
  NVIDIA-H100-80GB-HBM3: {onDemand: 3.50, spot: "1.40"}
  NVIDIA-L40S: {onDemand: "1.10"}
models:
  together/llama: {inputPerMillion: 0.18, outputPerMillion: "0.18", deprecationDate: 2027-03-31}
"""


def written(tmp_path: Path, text: str | bytes, name: str = "prices.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mapped(tmp_path: Path, entries: Any) -> Path:
    return written(tmp_path, json.dumps(entries), "map.json")


def test_a_catalog_has_gpus_by_how_they_are_bought_and_models(tmp_path: Path) -> None:
    prices = read_catalog(written(tmp_path, CATALOG))
    assert prices.gpus == {
        ("NVIDIA-H100-80GB-HBM3", CapacityType.ON_DEMAND): 3.5,
        ("NVIDIA-H100-80GB-HBM3", CapacityType.SPOT): 1.4,
        ("NVIDIA-L40S", CapacityType.ON_DEMAND): 1.1,
    }
    model = prices.models["together/llama"]
    assert (model.input_per_million, model.output_per_million) == (0.18, 0.18)
    assert model.cached_input_per_million is None
    assert model.deprecated_at == parse_time("2027-03-31T00:00:00Z")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "accelerators: {H100: {onDemand: $3.50}}",
            "H100.onDemand must be an amount in US dollars such as \"3.50\", got '$3.50'",
        ),
        ("accelerators: {H100: {onDemand: -3}}", "accelerators.H100.onDemand must be an amount"),
        ("accelerators: {H100: {ondemand: 3}}", "accelerators.H100.ondemand the field's name must"),
        ("accelerators: {H100: 3.5}", "accelerators.H100 must be an object, got '3.5'"),
        ("accelerators: [H100]", "accelerators must be an object"),
        ("gpus: {}", "gpus the field's name must be one of asOf, accelerators, models"),
        ("asOf: yesterday", "asOf must be a date such as 2027-03-31, got 'yesterday'"),
        ("[]", "the file must be an object"),
        ("models: {m: {inputPerMillion: 1}}", "models.m.outputPerMillion is required"),
        (
            "models: {m: {inputPerMillion: 1, outputPerMillion: 1, deprecationDate: soon}}",
            "models.m.deprecationDate must be a date such as 2027-03-31, got 'soon'",
        ),
        ("a: [", "not YAML"),
        ("[" * 600, "not YAML"),
        (b"\xff\xfe\xff", "not UTF-8"),
    ],
)
def test_a_catalog_that_is_wrong_names_file_field_and_value(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PriceFileError) as error:
        read_catalog(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_every_wrong_field_is_named_up_to_a_few(tmp_path: Path) -> None:
    gpus = ", ".join(f"G{i}: {{onDemand: x}}" for i in range(8))
    with pytest.raises(PriceFileError) as error:
        read_catalog(written(tmp_path, f"accelerators: {{{gpus}}}"))
    assert len(error.value.problems) == 8
    assert str(error.value).endswith("and 3 more")


def test_a_list_that_names_its_day_is_as_old_as_that_whatever_the_file_is(tmp_path: Path) -> None:
    day = parse_time("2026-08-01T00:00:00Z")
    assert read_catalog(written(tmp_path, f"asOf: 2026-08-01\n{CATALOG}")).as_of == day
    unsaid = written(tmp_path, CATALOG)
    assert read_catalog(unsaid).as_of == unsaid.stat().st_mtime
    model = {"input_cost_per_token": 2e-8, "output_cost_per_token": 4e-8}
    assert read_price_map(mapped(tmp_path, {"asOf": "2026-08-01", "m": model})).as_of == day
    with pytest.raises(PriceFileError, match="asOf must be a date such as 2027-03-31, got 8"):
        read_price_map(mapped(tmp_path, {"asOf": 8, "m": model}))


def test_an_empty_catalog_prices_nothing(tmp_path: Path) -> None:
    assert read_catalog(written(tmp_path, "")).gpus == {}


def test_a_price_map_is_read_as_litellm_publishes_it(tmp_path: Path) -> None:
    entries = {
        "sample_spec": {"input_cost_per_token": "cost of a token", "mode": "one of chat, ..."},
        "deepinfra/llama-8b": {
            "input_cost_per_token": 2e-8,
            "output_cost_per_token": 4e-8,
            "cache_read_input_token_cost": 1e-8,
            "deprecation_date": "2026-12-31",
            "litellm_provider": "deepinfra",
            "max_input_tokens": 131072,
        },
        "an-embedding": {"input_cost_per_token": 1e-8},
        "text": "no entry",
        "huge": {"input_cost_per_token": 10**400, "output_cost_per_token": True},
    }
    prices = read_price_map(mapped(tmp_path, entries))
    assert set(prices.models) == {"deepinfra/llama-8b"}
    llama = prices.models["deepinfra/llama-8b"]
    assert llama.input_per_million == pytest.approx(0.02)
    assert llama.output_per_million == pytest.approx(0.04)
    assert llama.cached_input_per_million == pytest.approx(0.01)
    assert llama.deprecated_at == parse_time("2026-12-31T00:00:00Z")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "must be an object"),
        ("{", "not JSON"),
        ("[" * 5_000, "not JSON"),
        ("{}", "no entry has input_cost_per_token"),
        ('{"m": {"input_cost_per_token": "0.1"}}', "no entry has input_cost_per_token"),
    ],
)
def test_a_price_map_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(PriceFileError, match=said):
        read_price_map(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"nowhere\.yaml: No such file"):
        read_catalog(tmp_path / "nowhere.yaml")


async def test_a_change_is_seen_and_a_broken_one_is_a_problem(tmp_path: Path) -> None:
    path = written(tmp_path, CATALOG)
    files = PriceFiles(catalog=path)
    await files.refresh()
    assert files.book({}).catalog.gpus["NVIDIA-L40S", CapacityType.ON_DEMAND] == 1.1
    path.write_text("accelerators: {NVIDIA-L40S: {onDemand: ten}}")
    await files.refresh()
    (problem,) = files.book({}).problems
    assert str(path) in problem
    assert "accelerators.NVIDIA-L40S.onDemand" in problem
    path.unlink()
    await files.refresh()
    assert "No such file" in files.book({}).problems[0]
    path.write_text(CATALOG.replace("1.10", "1.20"))
    await files.refresh()
    assert files.book({}).catalog.gpus["NVIDIA-L40S", CapacityType.ON_DEMAND] == 1.2
    assert not files.book({}).problems


async def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    path = mapped(tmp_path, {"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}})
    files = PriceFiles(price_map=path)
    await files.refresh()
    before = files.book({}).price_map
    await files.refresh()
    assert files.book({}).price_map is before
    os.utime(path, (1.0, 1.0))
    await files.refresh()
    assert files.book({}).price_map.as_of == 1.0


async def test_without_files_there_is_an_empty_book() -> None:
    files = PriceFiles()
    await files.refresh()
    book = files.book({"node": 2.0})
    assert (book.catalog.gpus, book.price_map.models, book.problems) == ({}, {}, ())
    assert book.node_usd_per_gpu_hour == {"node": 2.0}
