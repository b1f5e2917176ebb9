from __future__ import annotations

import pytest

from spillway.adapters.metrics.answers import Answer
from spillway.adapters.metrics.lengths import read_lengths
from spillway.core.facts import LengthQuantiles


def buckets(rates: dict[str, float], **labels: str) -> list[tuple[dict[str, str], float]]:
    of = {"namespace": "serving", "model_name": "m", **labels}
    return [({**of, "le": bound}, rate) for bound, rate in rates.items()]


#: A quarter up to 500, half up to 1,000, three quarters up to 2,000 and nothing beyond 5,000.
RATES = {"500": 1.0, "1000.0": 2.0, "2e+03": 3.0, "5000": 4.0, "+Inf": 4.0}


def test_quantiles_are_of_the_models_requests_in_a_namespace() -> None:
    twice = {bound: 2 * rate for bound, rate in RATES.items()}
    prompts = Answer([*buckets(RATES), *buckets(twice, namespace="other")])
    found = read_lengths(prompts, Answer(buckets(RATES, model_name="n")))
    assert found.keys() == {("serving", "m"), ("other", "m"), ("serving", "n")}
    assert found["serving", "m"].prompt_p50 == pytest.approx(1000)
    # Prompts double in 0.674 standard deviations, the score of three quarters: 2^(1.645/0.674) of
    # 1,000 would be 5,430, and none is longer than 5,000.
    assert found["serving", "m"].prompt_p95 == pytest.approx(5000)
    assert found["serving", "m"].output_p50 is None
    assert found["other", "m"] == found["serving", "m"]
    assert found["serving", "n"].output_p50 == pytest.approx(1000)


def test_series_with_and_without_the_workloads_own_labels_are_of_one_model() -> None:
    half = {bound: rate / 2 for bound, rate in RATES.items()}
    own = buckets(half, namespace="monitoring", exported_namespace="serving")
    assert read_lengths(Answer([*buckets(half), *own]), None) == read_lengths(
        Answer(buckets(RATES)), None
    )


@pytest.mark.parametrize(
    "odd",
    [
        [],
        buckets({"+Inf": 3.0}),
        # Without +Inf nobody knows how many are beyond.
        buckets({"500": 1.0, "1000": 2.0}),
        buckets({"500": 0.0, "+Inf": 0.0}),
        buckets({"x": 1.0, "nan": 2.0, "-5": 2.0, "+Inf": 3.0}),
    ],
)
def test_buckets_that_tell_nothing_are_none(odd: list[tuple[dict[str, str], float]]) -> None:
    found = read_lengths(Answer(odd), None)
    assert found.get(("serving", "m"), LengthQuantiles()) == LengthQuantiles()


def test_a_series_of_no_model_is_nobodys() -> None:
    assert read_lengths(Answer([({"le": "5"}, 1.0), ({}, 1.0)]), None) == {}
