"""What Envoy counts for the gateway's series; lua/metrics.lua gives it its names."""

from __future__ import annotations

from typing import Any, Final

_TYPE: Final = "@type"
_API: Final = "type.googleapis.com/envoy."
PREFIX: Final = "spillway_gateway"
#: Milliseconds. Finer than the engine's own buckets around the usual targets (0.5 to 2 s for the
#: first token, 20 to 60 ms for each further one).
_TTFT_MS: Final = [
    50, 100, 200, 300, 400, 500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 4000, 5000, 7500,
    10000, 20000, 40000, 80000,
]  # fmt: skip
_TPOT_MS: Final = [5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 125, 150, 200, 300, 500, 1000]


def stats_config() -> dict[str, Any]:
    """Buckets of the histograms."""
    return {
        # Histograms are only seen once they are flushed.
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"prefix": f"{PREFIX}.{name}"}, "buckets": buckets}
                for name, buckets in (("ttft_ms", _TTFT_MS), ("tpot_ms", _TPOT_MS))
            ]
        },
    }


def tokens_log() -> list[dict[str, Any]]:
    """Tokens and latency of what came through the edge, by destination."""
    tags = [_tag("destination")]
    return [
        _log(
            {"counters": [_counter(name, tags) for name in ("prompt_tokens", "completion_tokens")]},
            "destination",
        ),
        *(
            _log(
                {
                    "histograms": [
                        {
                            "stat": {"name": name, "tags": tags},
                            "unit": "Milliseconds",
                            "value_format": _metadata(name),
                        }
                    ]
                },
                name,
            )
            for name in ("ttft_ms", "tpot_ms")
        ),
    ]


def usd_log() -> list[dict[str, Any]]:
    """Micro-dollars of what was paid for, by provider: Envoy counts in whole numbers."""
    tag = {"name": "provider", "value_format": _metadata("paid_by")}
    return [_log({"counters": [_counter("micro_usd", [tag])]}, "micro_usd")]


def _log(config: dict[str, Any], noted: str) -> dict[str, Any]:
    """A stats logger for the streams of which something was noted."""
    return {
        "name": "envoy.access_loggers.stats",
        "filter": {
            "metadata_filter": {
                "matcher": {
                    "filter": "spillway",
                    "path": [{"key": noted}],
                    "value": {"present_match": True},
                },
                "match_if_key_not_found": False,
            }
        },
        "typed_config": {
            _TYPE: f"{_API}extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": PREFIX},
            **config,
        },
    }


def _counter(name: str, tags: list[dict[str, str]]) -> dict[str, Any]:
    return {"stat": {"name": name, "tags": tags}, "value_format": _metadata(name)}


def _tag(name: str) -> dict[str, str]:
    return {"name": name, "value_format": _metadata(name)}


def _metadata(name: str) -> str:
    return f"%DYNAMIC_METADATA(spillway:{name})%"
