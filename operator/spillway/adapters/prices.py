"""Price lists from files: the operator's own catalog (YAML), and LiteLLM's price map (JSON).

The catalog:

    asOf: 2026-11-01                  # when these prices were looked up; unset: the file's own time
    accelerators:
      NVIDIA-H100-80GB-HBM3: {onDemand: "3.50", spot: "1.40"}     # US dollars for one GPU-hour
    models:
      together/meta-llama/Llama-3.1-8B-Instruct-Turbo:            # provider name / model name
        {inputPerMillion: "0.18", outputPerMillion: "0.18", deprecationDate: 2027-03-31}

It is refused as a whole when a field is wrong: half a catalog would price half of a decision. Of
the price map, which is other people's and holds thousands of entries, those that can't be read are
left out. Of its fields these are read: input_cost_per_token, output_cost_per_token,
cache_read_input_token_cost and deprecation_date; prices that depend on the length of the prompt
(..._above_128k_tokens) are not. An entry "asOf" beside the models gives the map's day, as above: a
mounted ConfigMap's files are as old as the mount, however old the prices in them are.

Both are usually mounted from a ConfigMap, which holds 1 MiB: keep the models that you buy.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
import yaml

from spillway.api.inferencepool import CapacityType
from spillway.api.quantities import MONEY_PATTERN, NotAcceptedError, matching
from spillway.api.timestamps import parse_time
from spillway.api.validation import FieldProblem
from spillway.core.pricebook import ModelPrice, PriceBook, PriceList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

#: LiteLLM's whole map is about 2 MB; what is larger by far is not a price list.
_MOST_BYTES: Final = 16 * 1024 * 1024
_PER_MILLION: Final = 1e6
_MONEY: Final = 'an amount in US dollars such as "3.50"'
_AS_OF: Final = "asOf"
_DATE: Final = "a date such as 2027-03-31"
_BOUGHT: Final = {"onDemand": CapacityType.ON_DEMAND, "spot": CapacityType.SPOT}
_MODEL_REQUIRED: Final = ("inputPerMillion", "outputPerMillion")
_MODEL_FIELDS: Final = (*_MODEL_REQUIRED, "cachedInputPerMillion", "deprecationDate")
_TOLD: Final = 5


class PriceFileError(ValueError):
    """A price file can't be used.

    Attributes:
        path: The file.
        problems: What is wrong with which field; empty where the file as a whole can't be read.
    """

    def __init__(self, path: Path, message: str, problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.problems = problems


def read_catalog(path: Path) -> PriceList:
    """The operator's own price catalog.

    Raises:
        PriceFileError: It can't be read, or a field is wrong; file, field and value are named.
    """
    text, as_of = _read(path)
    try:
        # Every scalar as it was written: a price is never turned into a binary number on the way.
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts, lists, maps
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PriceFileError(path, f"not YAML: {' '.join(str(error).split())}") from error
    reader = _CatalogReader()
    found = reader.read(document)
    if reader.problems:
        told = "; ".join(str(problem) for problem in reader.problems[:_TOLD])
        more = len(reader.problems) - _TOLD
        told += f"; and {more} more" if more > 0 else ""
        raise PriceFileError(path, told, tuple(reader.problems))
    return replace(found, as_of=as_of if found.as_of is None else found.as_of)


def read_price_map(path: Path) -> PriceList:
    """A price map as LiteLLM publishes it (model_prices_and_context_window.json).

    Raises:
        PriceFileError: It can't be read, or holds no price at all.
    """
    text, as_of = _read(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PriceFileError(path, f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise PriceFileError(path, "must be an object of models by name")
    models = {name: p for name, entry in document.items() if (p := _map_entry(entry)) is not None}
    if not models:
        msg = "no entry has input_cost_per_token and output_cost_per_token"
        raise PriceFileError(path, msg)
    day = None
    if _AS_OF in document:
        day = _date(document[_AS_OF])
        if day is None:
            problem = FieldProblem(_AS_OF, document[_AS_OF], f"must be {_DATE}")
            raise PriceFileError(path, str(problem), (problem,))
    return PriceList(models=models, as_of=as_of if day is None else day)


def _read(path: Path) -> tuple[str, float]:
    """The file's text and when it was written."""
    try:
        stat = path.stat()
        if stat.st_size > _MOST_BYTES:
            raise PriceFileError(path, f"larger than {_MOST_BYTES // 2**20} MiB: no price list")
        return path.read_text(encoding="utf-8"), stat.st_mtime
    except OSError as error:
        raise PriceFileError(path, f"{error.strerror}; name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise PriceFileError(path, "not UTF-8 text") from error


class _CatalogReader:
    """Reads a catalog field by field and notes what is wrong with it.

    Attributes:
        problems: What is wrong.
    """

    def __init__(self) -> None:
        self.problems: list[FieldProblem] = []

    def read(self, document: object) -> PriceList:
        gpus: dict[tuple[str, CapacityType], float] = {}
        models: dict[str, ModelPrice] = {}
        top = self._fields("", document, (_AS_OF, "accelerators", "models"))
        as_of = _date(top[_AS_OF]) if _AS_OF in top else None
        if _AS_OF in top and as_of is None:
            self._refuse(_AS_OF, top[_AS_OF], _DATE)
        for name, entry in self._map("accelerators", top.get("accelerators")):
            where = f"accelerators.{name}"
            for bought, text in self._fields(where, entry, tuple(_BOUGHT)).items():
                usd = self._money(f"{where}.{bought}", text)
                if usd is not None:
                    gpus[name, _BOUGHT[bought]] = usd
        for name, entry in self._map("models", top.get("models")):
            price = self._model(f"models.{name}", entry)
            if price is not None:
                models[name] = price
        return PriceList(gpus, models, as_of)

    def _model(self, where: str, entry: object) -> ModelPrice | None:
        fields = self._fields(where, entry, _MODEL_FIELDS)
        for missing in (f for f in _MODEL_REQUIRED if f not in fields):
            self.problems.append(FieldProblem(f"{where}.{missing}", None, "is required"))
        prompt, answer, cached = (
            self._money(f"{where}.{name}", fields[name]) if name in fields else None
            for name in _MODEL_FIELDS[:3]
        )
        deprecated = None
        if "deprecationDate" in fields:
            deprecated = _date(fields["deprecationDate"])
            if deprecated is None:
                self._refuse(f"{where}.deprecationDate", fields["deprecationDate"], _DATE)
        if prompt is None or answer is None:
            return None
        return ModelPrice(prompt, answer, cached, deprecated)

    def _fields(self, where: str, entry: object, known: tuple[str, ...]) -> dict[str, Any]:
        """The known fields of an object; a misspelt price must not be silently absent."""
        found = dict(self._map(where, entry))
        for name in found.keys() - set(known):
            path = f"{where}.{name}" if where else name
            self._refuse(path, found.pop(name), f"one of {', '.join(known)}", "the field's name ")
        return found

    def _map(self, where: str, entry: object) -> Iterator[tuple[str, Any]]:
        if entry in (None, ""):
            return
        if isinstance(entry, dict) and all(isinstance(key, str) for key in entry):
            yield from entry.items()
        else:
            self._refuse(where or "the file", entry, "an object")

    def _money(self, where: str, text: object) -> float | None:
        try:
            return float(matching(text, MONEY_PATTERN, _MONEY))
        except NotAcceptedError:
            self._refuse(where, text, _MONEY)
            return None

    def _refuse(self, where: str, value: object, accepted: str, what: str = "") -> None:
        self.problems.append(FieldProblem(where, value, f"{what}must be {accepted}"))


def _map_entry(entry: object) -> ModelPrice | None:
    """The prices of an entry of the map; None where it has none."""
    if not isinstance(entry, dict):
        return None
    prompt, answer, cached = (
        _per_million(entry.get(name))
        for name in (
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_read_input_token_cost",
        )
    )
    if prompt is None or answer is None:
        return None
    return ModelPrice(prompt, answer, cached, _date(entry.get("deprecation_date")))


def _per_million(per_token: object) -> float | None:
    if isinstance(per_token, bool) or not isinstance(per_token, int | float):
        return None
    try:
        usd = float(per_token) * _PER_MILLION
    except OverflowError:
        return None
    return usd if math.isfinite(usd) else None


def _date(text: object) -> float | None:
    """Begin of a day, UTC, in seconds since the epoch; None where the text names no day."""
    try:
        return parse_time(f"{text}T00:00:00Z")
    except ValueError:
        return None


@dataclass(slots=True)
class _File:
    """A price file and what was last read of it."""

    path: Path
    read: Callable[[Path], PriceList]
    signature: tuple[int, ...] | None = None
    prices: PriceList = field(default_factory=PriceList)
    problem: str = ""

    def refresh(self) -> None:
        """Read it again if it has changed."""
        try:
            stat = self.path.stat()
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            signature = (0, 0, 0)
        if signature == self.signature:
            return
        self.signature = signature
        try:
            self.prices, self.problem = self.read(self.path), ""
        except PriceFileError as error:
            # Pools hold the prices that they had (spillway.core.prices), and say why.
            self.prices, self.problem = PriceList(), str(error)
            log.warning(
                "a price file can't be used; pools hold their last prices", error=str(error)
            )
        else:
            log.info(
                "prices read",
                file=str(self.path),
                gpus=len(self.prices.gpus),
                models=len(self.prices.models),
            )


class PriceFiles:
    """The operator's price files, read again when they change.

    Args:
        catalog: Price catalog; None: there is none.
        price_map: LiteLLM's price map; None: there is none.
    """

    def __init__(self, catalog: Path | None = None, price_map: Path | None = None) -> None:
        self._catalog = None if catalog is None else _File(catalog, read_catalog)
        self._map = None if price_map is None else _File(price_map, read_price_map)

    async def refresh(self) -> None:
        """Look for changes, off the event loop; a file that can't be used is no error here."""
        for file in filter(None, (self._catalog, self._map)):
            await asyncio.to_thread(file.refresh)

    def book(self, node_usd_per_gpu_hour: Mapping[str, float]) -> PriceBook:
        """What is known of prices now.

        Args:
            node_usd_per_gpu_hour: OpenCost's, by node.
        """
        catalog, price_map = self._catalog, self._map
        return PriceBook(
            catalog=PriceList() if catalog is None else catalog.prices,
            price_map=PriceList() if price_map is None else price_map.prices,
            node_usd_per_gpu_hour=node_usd_per_gpu_hour,
            problems=tuple(f.problem for f in (catalog, price_map) if f is not None and f.problem),
        )
