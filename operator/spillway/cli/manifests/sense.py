"""Everything that can be said of the pools of some files without a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spillway.api.validation import InferencePool, InvalidPoolError, parse
from spillway.cli.manifests.fields import unknown_fields
from spillway.cli.manifests.finding import Around, Findings
from spillway.cli.manifests.surroundings import (
    check_pools,
    check_prices,
    check_quotas,
    check_route,
)
from spillway.cli.manifests.workloads import check_workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spillway.cli.manifests.files import Manifest
    from spillway.core.pricebook import PriceBook


@dataclass(frozen=True, slots=True)
class Checked:
    """A pool of a file, or a file that holds nothing readable.

    Attributes:
        file: The file.
        namespace: Of the pool; "" for a file.
        name: Of the pool; None for a file.
        findings: What was found.
    """

    file: str
    namespace: str = ""
    name: str | None = None
    findings: Findings = field(default_factory=Findings)


def check(manifests: Sequence[Manifest], prices: PriceBook | None) -> list[Checked]:
    """Check every pool among the manifests against schema, rules, and what stands around it.

    Args:
        manifests: Everything that was read.
        prices: The price files; None where none were named.
    """
    answers: list[tuple[Checked, InferencePool | None]] = []
    for manifest in manifests:
        if manifest.is_pool:
            checked = Checked(manifest.file, manifest.namespace, manifest.name)
            checked.findings.problems.extend(unknown_fields(manifest.raw))
            answers.append((checked, _parsed(manifest, checked.findings)))
    pools = [pool for _, pool in answers if pool is not None]
    for checked, pool in answers:
        if pool is not None:
            neighbours = [p for p in pools if p.namespace == pool.namespace]
            around = Around(
                tuple(m for m in manifests if not m.is_pool and m.namespace == checked.namespace)
            )
            _compare(pool, neighbours, around, prices, checked.findings)
    return [checked for checked, _ in answers]


def _parsed(manifest: Manifest, findings: Findings) -> InferencePool | None:
    try:
        return parse(manifest.raw)
    except InvalidPoolError as error:
        findings.problems.extend(str(problem) for problem in error.problems)
        return None


def _compare(
    pool: InferencePool,
    neighbours: Sequence[InferencePool],
    around: Around,
    prices: PriceBook | None,
    findings: Findings,
) -> None:
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("workloads and Services", lambda: check_workloads(pool.spec, around, findings)),
        ("quotas", lambda: check_quotas(pool, neighbours, around, findings)),
        ("the route", lambda: check_route(pool, around, findings)),
    )
    for what, step in steps:
        try:
            step()
        except (AttributeError, KeyError, TypeError, ValueError):
            # Other kinds are not ours to validate; a strange one must not end the command.
            findings.unchecked.append(
                f"{what}: an object of these files is not as its API has it; kubectl apply "
                "--dry-run=server says which"
            )
    check_prices(pool.spec, prices, findings)
    check_pools(pool, neighbours, findings)
