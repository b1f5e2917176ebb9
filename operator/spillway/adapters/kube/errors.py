"""What can go wrong between Spillway and the API server.

::

    ConnectError                 nobody answers at start
    └── NotConfigured            no usable configuration: waiting does not help
    ApiError                     an answer that is not a success
    ├── Unauthorized             401, after the credentials were read anew
    ├── Forbidden                403: names verb and resource, and the ClusterRole
    │   └── Terminating          the namespace is going: nothing new goes into it
    ├── NotFound                 404
    ├── Conflict                 409: a stale resourceVersion, or it exists; or a lost leadership
    ├── Gone                     410: the resourceVersion is too old, list again
    ├── Invalid                  400, 415, 422: the object was refused
    └── Unavailable              429, 5xx, time-outs, broken connections
        └── WatchSilent          a watch brought neither events nor bookmarks
    TargetUnsupported            a reference to something that has no scale subresource
    LedgerFullError              a ledger shard would outgrow what etcd stores

Retries belong to the callers: only they know whether the decision still holds.
"""
# ruff: noqa: N818 - the names are the API server's own reasons (NotFound, Conflict, Gone).

from __future__ import annotations

from typing import Final


class ConnectError(Exception):
    """No API server can be reached with this configuration; the message says what to do."""


class NotConfigured(ConnectError):
    """Nothing says which API server, or what says so can't be read or has no such context."""


class ApiError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: The API server's machine-readable reason (``Status.reason``), or ours.
        message: What happened, for a person, with the request that it happened to.
        retry_after_seconds: What the server asked for; None where it asked for nothing.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ApiError):
    """The credentials are not accepted, also not after they were read anew."""


class Forbidden(ApiError):
    """The identity may not do this."""


class Terminating(Forbidden):
    """The namespace is being deleted, and takes no new objects."""


class NotFound(ApiError):
    """No such object, or no such resource (a CRD that is not installed)."""


class Conflict(ApiError):
    """The object changed since it was read, exists already, or has an owner; or another leads."""


class Gone(ApiError):
    """The resourceVersion (or the continue token) is older than what the server keeps."""


class Invalid(ApiError):
    """The server refused the object or the request."""


class Unavailable(ApiError):
    """No usable answer now: overload, an outage, a time-out. Nothing is known of the effect."""


class WatchSilent(Unavailable):
    """A watch brought neither events nor bookmarks for longer than a living one can."""


class TargetUnsupported(Exception):
    """The kind is unknown to the cluster, or has no scale subresource."""


class LedgerFullError(Exception):
    """A shard of the ledger would outgrow what one ConfigMap can hold."""


#: The cause (``Status.details.causes``) of a 403 in a namespace that is being deleted.
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"

_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
}


def api_error(
    status: int, reason: str, message: str, *, request: str, retry_after_seconds: float | None
) -> ApiError:
    """Build the right member of the tree for an HTTP status.

    Args:
        status: HTTP status of the answer.
        reason: ``Status.reason`` of the body, or the HTTP reason phrase; `NAMESPACE_TERMINATING`
            where that is the cause.
        message: ``Status.message`` of the body, or its first characters.
        request: What was asked, for a person ("list pods in all namespaces").
        retry_after_seconds: From the Retry-After header.
    """
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else ApiError)
    text = f"{request} failed with {status} {reason}: {message}"
    if reason == NAMESPACE_TERMINATING:
        kind = Terminating
    elif status == 403:
        text = (
            f"may not {request}: {message}; check the ClusterRole that is bound to Spillway's "
            "ServiceAccount"
        )
    return kind(status, reason, text, retry_after_seconds)
