"""Small inputs that unfold into large ones, or are large: refused in time, by their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from spillway.adapters.prices import PriceFileError, read_catalog, read_price_map
from spillway.api.names import API_VERSION, KIND
from spillway.api.validation import InvalidPoolError, parse
from spillway.cli import app
from spillway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


def laughs(levels: int = 12) -> str:
    """Nine to the power of ``levels`` texts in a dozen lines of YAML, as the anchor ``*last``."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        name = "last" if level == levels - 1 else f"l{level}"
        lines.append(f"l{level}: &{name} [{', '.join([f'*l{level - 1}'] * 9)}]")
    return "\n".join(lines) + "\n"


def test_a_manifest_of_a_billion_laughs_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(
        laughs()
        + f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: a, labels: *last}}\n"
        + "spec: {modelName: *last, variants: *last}\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.exit_code == ExitCode.INVALID
    assert "must hold at most 100000 values" in done.stdout


def test_an_object_of_many_values_or_of_great_depth_is_refused() -> None:
    for spec in ([0] * 200_000, deep(5000)):
        with pytest.raises(InvalidPoolError):
            parse({"apiVersion": API_VERSION, "kind": KIND, "spec": {"variants": spec}})


def deep(levels: int) -> list[object]:
    """A list in a list in a list ..."""
    inner: list[object] = []
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "text",
    [
        laughs() + "models: *last\naccelerators: *last\n",
        laughs() + "models: {a: *last, b: {inputPerMillion: *last, outputPerMillion: *last}}\n",
        "models: " + "[" * 600,
        "models: " + "{a: " * 600,
    ],
    ids=["laughs", "laughs-in-a-price", "deep-list", "deep-map"],
)
def test_a_price_file_that_unfolds_is_refused_in_a_few_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices"
    path.write_text(text, encoding="utf-8")
    for read in (read_catalog, read_price_map):
        with pytest.raises(PriceFileError) as refused:
            read(path)
        assert len(str(refused.value)) < 5000


def test_a_price_file_that_is_no_price_list_by_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "prices"
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(PriceFileError, match="larger than 16 MiB"):
        read_price_map(path)
