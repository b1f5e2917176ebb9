"""Answers of Prometheus, built by hand."""

from __future__ import annotations

from typing import Any

from spillway.adapters.metrics.answers import Answer
from spillway.adapters.metrics.queries import Signal

NOW = 1_000_000.0


def labels(pod: str = "a", model: str = "m", engine: str = "0", **more: str) -> dict[str, str]:
    return {"namespace": "serving", "pod": pod, "model_name": model, "engine": engine, **more}


def answer(*samples: tuple[dict[str, str], float]) -> Answer:
    return Answer(samples=list(samples))


def engine_answers(*pods: str, age: float = 5.0, **more: Answer) -> dict[Signal, Answer]:
    """One engine a pod, two requests running and one waiting; ``more`` by signal."""
    answers = {
        Signal.RUNNING: answer(*((labels(pod), 2.0) for pod in pods)),
        Signal.WAITING: answer(*((labels(pod), 1.0) for pod in pods)),
        Signal.SAMPLED_AT: answer(*((labels(pod), NOW - age) for pod in pods)),
    }
    return answers | {Signal(name): value for name, value in more.items()}


def row(sample_labels: dict[str, str], value: Any) -> dict[str, Any]:
    """A row of an instant vector, as the API sends it."""
    return {"metric": sample_labels, "value": [NOW, str(value)]}
