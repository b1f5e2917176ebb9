"""Whatever a pod or a Prometheus sends, nothing crashes and nothing impossible comes out."""

from __future__ import annotations

import math
import string

from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.metrics import CounterWindow, EnginePage, missing_for, parse_page
from spillway.adapters.metrics.answers import Answer, read_answer
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.gateways import GatewayReader
from spillway.adapters.metrics.lengths import read_lengths
from spillway.adapters.metrics.page import _NAMES
from spillway.adapters.metrics.queries import Signal, build_queries
from spillway.adapters.metrics.snapshot import MetricsSnapshot, read_engines
from spillway.adapters.metrics.transport import AnswerError
from spillway.core.facts import LengthQuantiles, ReplicaLoad

NOW = 1_000_000.0
QUERIES = build_queries()

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
label_names = st.sampled_from([
    "namespace", "pod", "exported_namespace", "exported_pod", "model_name", "engine",
    "num_gpu_blocks", "pool", "destination", "instance", "provider", "le",
])  # fmt: skip
label_values = st.sampled_from(["a", "b", "0", "1", "local", "cloud", ""]) | st.text(max_size=5)
numbers = st.floats().map(repr) | st.sampled_from(["NaN", "+Inf", "-1", "1", "0", "1e999", "x"])
rows = st.fixed_dictionaries(
    {
        "metric": st.dictionaries(label_names, label_values, max_size=6),
        "value": st.tuples(st.just(NOW), numbers).map(list),
    }
)
vectors = st.lists(rows | json_values, max_size=8) | json_values

lines = st.builds(
    "{}{{{}}} {}".format,
    st.sampled_from(sorted(_NAMES)),
    st.text(alphabet=string.printable, max_size=30)
    | st.dictionaries(label_names, st.text(string.ascii_letters, max_size=3), max_size=3).map(
        lambda labels: ",".join(f'{name}="{value}"' for name, value in labels.items())
    ),
    numbers | st.text(max_size=5),
)


def assert_possible(load: ReplicaLoad) -> None:
    for name in ReplicaLoad.__dataclass_fields__:
        value = getattr(load, name)
        assert value is None or not math.isnan(value)
        if name != "in_flight_change_per_second":
            assert value is None or value >= 0
    for ratio in (load.kv_usage, load.gpu_utilization):
        assert ratio is None or 0 <= ratio <= 1 + 1e-9


@given(st.dictionaries(st.sampled_from(QUERIES), vectors, max_size=len(QUERIES)))
def test_no_answer_of_prometheus_crashes_a_snapshot(payloads: dict) -> None:  # type: ignore[type-arg]
    answers: dict[Signal, Answer] = {}
    for query, payload in payloads.items():
        try:
            answers[query.signal] = read_answer(payload, query)
        except AnswerError:
            assert not isinstance(payload, list)
    readings = read_engines(answers, Freshness(NOW, 60.0))
    gateways, _ = GatewayReader().read(answers, Freshness(NOW, 60.0))
    lengths = read_lengths(answers.get(Signal.PROMPT_LENGTHS), answers.get(Signal.OUTPUT_LENGTHS))
    for found in lengths.values():
        for name in LengthQuantiles.__dataclass_fields__:
            length = getattr(found, name)
            assert length is None or 0 <= length < math.inf
    for load in readings.loads.values():
        assert_possible(load)
    for gateway in gateways.values():
        assert 0 <= gateway.cloud_per_second <= gateway.arrivals_per_second * (1 + 1e-9)
    assert not readings.loads.keys() & readings.unusable.keys()
    snapshot = MetricsSnapshot(
        at=NOW, loads=readings.loads, model_names=readings.model_names,
        models_seen=readings.models_seen, gateways=gateways, unusable=readings.unusable,
    )  # fmt: skip
    missing = missing_for(snapshot, "a", "m", ["a", "b"], need_gpu=True, gateway_pool="a")
    assert all(entry.seen for entry in missing)


@given(st.lists(lines | st.text(max_size=40), max_size=12).map("\n".join))
def test_no_page_crashes_the_parser(text: str) -> None:
    page = parse_page(text, at=NOW)
    for name in EnginePage.__dataclass_fields__:
        value = getattr(page, name)
        assert value is None or not isinstance(value, float) or value >= 0
    window = CounterWindow()
    window.observe("a", page)
    load = window.load("a", NOW)
    if load is not None:
        assert_possible(load)


def test_a_hostile_line_takes_no_time_that_grows_out_of_hand() -> None:
    quotes = 'vllm:num_requests_running{a="' + '\\"' * 4000 + "\n"
    braces = "vllm:num_requests_running{" + 'a="",' * 1600 + "\n"
    spaces = "vllm:num_requests_running " + " " * 8000 + "x\n"
    long = "vllm:num_requests_running{" + "a" * 3_000_000
    assert parse_page((quotes + braces + spaces) * 100 + long, at=NOW).running is None
