"""Where load comes from: Prometheus for all pods, and engines' own pages for the urgent ones."""

from __future__ import annotations

from spillway.adapters.metrics.auth import PrometheusAuth
from spillway.adapters.metrics.history import ArrivalHistory
from spillway.adapters.metrics.missing import aged_samples, missing_for, other_models
from spillway.adapters.metrics.page import EnginePage, parse_page
from spillway.adapters.metrics.prometheus import PrometheusSource
from spillway.adapters.metrics.scrape import (
    EngineScraper,
    ScrapeError,
    ScrapeFailure,
    ScrapeTarget,
)
from spillway.adapters.metrics.snapshot import MetricsSnapshot, QueryFailure
from spillway.adapters.metrics.window import CounterWindow

__all__ = [
    "ArrivalHistory",
    "CounterWindow",
    "EnginePage",
    "EngineScraper",
    "MetricsSnapshot",
    "PrometheusAuth",
    "PrometheusSource",
    "QueryFailure",
    "ScrapeError",
    "ScrapeFailure",
    "ScrapeTarget",
    "aged_samples",
    "missing_for",
    "other_models",
    "parse_page",
]
