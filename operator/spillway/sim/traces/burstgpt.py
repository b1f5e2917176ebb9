"""BurstGPT: ChatGPT and GPT-4 requests of a campus, by Azure OpenAI.

https://github.com/HPMLL/BurstGPT, CC-BY-4.0; arXiv:2401.17644. A failed request has 0 response
tokens. Release 2 adds the columns Session ID and Elapsed time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.trace import Lengths
from spillway.sim.traces.building import from_requests
from spillway.sim.traces.reading import has, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spillway.sim.trace import Trace
    from spillway.sim.traces.reading import Column

_SESSION = "Session ID"


def is_burstgpt(header: Sequence[str]) -> bool:
    """Whether a file with that header is BurstGPT's."""
    return has(header, "Timestamp", "Request tokens", "Response tokens")


def load(path: Path) -> Trace:
    """One row a request: Timestamp (seconds), Request tokens, Response tokens.

    All models and both kinds of log are one load.

    Raises:
        TraceError: The file is not such a one.
    """
    rows = table(path)
    lengths = Lengths.of(
        rows.column("Request tokens").whole(), rows.column("Response tokens").whole()
    )
    session = _numbered(rows.column(_SESSION)) if _SESSION in rows.header else None
    source = f"BurstGPT, {len(lengths):,} single requests ({path.name})."
    return from_requests(path, source, rows.column("Timestamp").numbers(), lengths, session)


def _numbered(column: Column) -> NDArray[np.int64]:
    """Numbers for names; -1 for none (only conversations have sessions)."""
    numbers: dict[str, int] = {"": -1}
    return np.array([numbers.setdefault(cell.strip(), len(numbers)) for cell in column.cells])
