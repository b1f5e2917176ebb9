"""Names that Spillway owns in the Kubernetes API: group, kind, labels, annotations, managers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

GROUP: Final = "spillway.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "InferencePool"
PLURAL: Final = "inferencepools"
SINGULAR: Final = "inferencepool"
SHORT_NAME: Final = "spool"

#: Which part a pod plays. Services select ``serving``; the pod template says ``serving``, so that
#: a pod that Spillway has not seen yet fails open.
ROLE_LABEL: Final = "spillway.dev/role"
#: RFC 3339 time after which a draining pod may go although requests still run on it.
DRAIN_DEADLINE_ANNOTATION: Final = "spillway.dev/drain-deadline"
#: The overflow value (JSON), on the InferencePool.
OVERFLOW_ANNOTATION: Final = "spillway.dev/overflow"
#: RFC 3339 time on an InferencePool: runaways suspected before it are dropped, and the load of the
#: moment becomes the usual one.
GUARD_RELEASE_ANNOTATION: Final = "spillway.dev/guard-release"
#: What the weights of an HTTPRoute were before Spillway came (JSON, by pool), on the route.
ROUTE_WEIGHTS_ANNOTATION: Final = "spillway.dev/original-weights"
#: Kubernetes' own: the lowest goes first when a ReplicaSet shrinks.
DELETION_COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
#: Karpenter's own: keeps voluntary disruption away.
DO_NOT_DISRUPT_ANNOTATION: Final = "karpenter.sh/do-not-disrupt"

#: Field managers of our server-side applies, one a concern, so that each can be released alone.
MANAGER_SCALE: Final = "spillway-scale"
MANAGER_STATUS: Final = "spillway-status"
MANAGER_ROLE: Final = "spillway-role"
MANAGER_OVERFLOW: Final = "spillway-overflow"
MANAGER_ROUTE: Final = "spillway-route"


class Role(StrEnum):
    """The part a pod plays in its pool."""

    SERVING = "serving"
    WARM = "warm"
    DRAINING = "draining"
