"""What was done at the API server, by whom and when: its audit log as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.rig.cluster import Cluster

_ACCOUNT = "system:serviceaccount:"
READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True)
class Write:
    """One write that the API server answered.

    Attributes:
        at: When the server received it (seconds since the epoch).
        account: The ServiceAccount's name, without its namespace; else the user's whole name.
        verb: Such as ``patch``.
        resource: Plural name, with the subresource where there is one: ``deployments/scale``.
        namespace: Of the object; "" for those without.
        name: Of the object; "" where the server chose it.
        code: HTTP status of the answer.
        body: What was sent.
    """

    at: float
    account: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    body: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """An event of the audit log."""
        reference = event.get("objectRef") or {}
        body = event.get("requestObject")
        return cls(
            at=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
            account=_account(event["user"]["username"]),
            verb=event["verb"],
            resource=_resource(reference),
            namespace=reference.get("namespace", ""),
            name=reference.get("name", ""),
            code=int((event.get("responseStatus") or {}).get("code", 0)),
            body=body if isinstance(body, dict) else {},
        )

    @property
    def done(self) -> bool:
        """Whether the server did it."""
        return self.code < 300

    @property
    def resource_version(self) -> str | None:
        """The resourceVersion that it was decided on, where it carried one."""
        version: str | None = (self.body.get("metadata") or {}).get("resourceVersion")
        return version


def writes(
    cluster: Cluster,
    account: str | None = None,
    *,
    namespace: str | None = None,
    resource: str | None = None,
    since: float = 0.0,
) -> list[Write]:
    """Writes so far, oldest first.

    Args:
        cluster: Must own its control plane.
        account: Of this account alone.
        namespace: To objects of this namespace alone.
        resource: To this resource (and subresource) alone.
        since: Received after this moment.
    """
    found = [
        Write.of(event)
        for event in cluster.audit_events(account or "")
        if event["verb"] not in READS and (event.get("objectRef") or {}).get("resource") != "events"
    ]
    wanted = (
        write
        for write in found
        if account in {None, write.account}
        and namespace in {None, write.namespace}
        and resource in {None, write.resource}
        and write.at > since
    )
    return sorted(wanted, key=lambda write: write.at)


@dataclass(frozen=True, order=True)
class Use:
    """A right that somebody has used: one verb on one resource of one API group."""

    group: str
    resource: str
    verb: str


def used(cluster: Cluster, account: str | None = None) -> dict[Use, set[int]]:
    """What the accounts in the operators' namespace have asked for, with the answers' codes.

    A refusal of admission, such as that of a new object in a namespace that is being deleted, has
    the code of a missing right too; it is left out, as the right was there.

    Args:
        cluster: Must own its control plane.
        account: This account alone.
    """
    found: dict[Use, set[int]] = {}
    for event in cluster.audit_events():
        user, reference = event["user"]["username"], event.get("objectRef") or {}
        if not user.startswith(f"{_ACCOUNT}spillway-system:") or "resource" not in reference:
            continue
        if account not in {None, _account(user)}:
            continue
        use = Use(reference.get("apiGroup", ""), _resource(reference), event["verb"])
        code = int((event.get("responseStatus") or {}).get("code", 0))
        decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
        codes = found.setdefault(use, set())
        if not (code == 403 and decision == "allow"):
            codes.add(code)
    return found


def _resource(reference: Mapping[str, Any]) -> str:
    subresource = reference.get("subresource")
    return str(reference.get("resource", "")) + (f"/{subresource}" if subresource else "")


def _account(user: str) -> str:
    return user.rpartition(":")[2] if user.startswith(_ACCOUNT) else user
