"""Log lines by structlog: the operator's are JSON, the standard library's (Kopf's) included."""

from __future__ import annotations

import logging
import sys

import structlog


def to_stderr() -> None:
    """Send log lines to stderr in words, so that they never mix with what a command prints."""
    # Made anew for each line: stderr may have been replaced since.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def configure(level: str) -> None:
    """Send every log line to stderr as one JSON object.

    Args:
        level: Lowest level that is written: debug, info, warning or error.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Kopf and aiohttp log each request at INFO; that is noise beside one line a decision.
    for name in ("kopf", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
