"""A pool beside its workloads, their Services and who else scales them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from spillway.adapters.kube.nodes import pod_gpus
from spillway.api.names import ROLE_LABEL, Role
from spillway.cli.manifests.files import part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spillway.api.inferencepool import InferencePoolSpec, TargetRef, Variant
    from spillway.cli.manifests.files import Manifest
    from spillway.cli.manifests.finding import Around, Findings

_SERVING: Final = f"{ROLE_LABEL}: {Role.SERVING}"
#: What a pod gets between SIGTERM and SIGKILL where it says nothing (Kubernetes' default).
_DEFAULT_GRACE_SECONDS: Final = 30


def check_workloads(spec: InferencePoolSpec, around: Around, findings: Findings) -> None:
    """Compare every variant with the workload it names.

    Raises:
        AttributeError: A manifest has something else where the API has an object.
        TypeError: Likewise.
        ValueError: Likewise, where it has a number.
    """
    for variant in spec.variants:
        ref = variant.target_ref
        group = ref.api_version.rpartition("/")[0]
        target = around.named(ref.kind, group, ref.name)
        _check_rivals(ref, around, findings)
        if target is None:
            findings.unchecked.append(
                f"{ref.kind} {ref.name} (variant {variant.name}) and its Service: not in these "
                "files"
            )
        elif group == "apps":
            _check_workload(spec, variant, target, findings)
            _check_services(spec, target, around, findings)


def _check_rivals(ref: TargetRef, around: Around, findings: Findings) -> None:
    rivals = (
        (m, part(m.raw, "spec", "scaleTargetRef"))
        for m in (
            *around.of("HorizontalPodAutoscaler", "autoscaling"),
            *around.of("ScaledObject", "keda.sh"),
        )
    )
    for rival, scaled in rivals:
        # Both leave the kind out for a Deployment.
        if (scaled.get("kind") or "Deployment", scaled.get("name")) == (ref.kind, ref.name):
            findings.problems.append(
                f"{rival} also scales {ref.kind} {ref.name}: Spillway would hold "
                "(TargetContested); remove one of the two"
            )


def _check_workload(
    spec: InferencePoolSpec, variant: Variant, target: Manifest, findings: Findings
) -> None:
    template = part(target.raw, "spec", "template", "spec")
    labels = part(target.raw, "spec", "template", "metadata", "labels")
    if labels.get(ROLE_LABEL) != Role.SERVING:
        findings.problems.append(
            f"{target}: its pod template lacks the label {_SERVING}; new pods would wait for the "
            "operator before they serve"
        )
    if ROLE_LABEL in _selector_keys(target):
        findings.problems.append(
            f"{target}: its selector names {ROLE_LABEL}, so a pod whose role changes would be "
            "orphaned; select by other labels"
        )
    containers = [c for c in template.get("containers") or [] if isinstance(c, dict)]
    if not any(container.get("readinessProbe") for container in containers):
        findings.problems.append(
            f"{target}: no container has a readinessProbe, so pods would be Ready before the "
            "model is loaded; give the engine one on its /health"
        )
    gpus, declared = pod_gpus(template), variant.accelerator.per_replica
    if gpus != declared:
        findings.warnings.append(
            f"{target}: a pod asks for {gpus} nvidia.com/gpu, while variants.accelerator.perReplica"
            f" of {variant.name} is {declared}; costs are computed from the latter"
        )
    if target.spec.get("replicas") is not None:
        findings.warnings.append(
            f"{target}: names replicas, so that each apply sets them back; leave the field out"
        )
    grace = float(template.get("terminationGracePeriodSeconds") or _DEFAULT_GRACE_SECONDS)
    if grace < spec.scaling.drain_timeout:
        findings.warnings.append(
            f"{target}: terminationGracePeriodSeconds is {grace:g}, less than scaling.drainTimeout "
            f"({spec.scaling.drain_timeout:g} s): a rollout or a node drain cuts off answers that "
            "Spillway's own drain waits for"
        )
    served = list(_served_names(containers))
    if served and spec.model_name not in served:
        findings.problems.append(
            f"{target}: the engine reports the model {' or '.join(served)}, and spec.modelName is "
            f"{spec.model_name}: no metrics would be found"
        )


def _selector_keys(target: Manifest) -> set[str]:
    selector = part(target.raw, "spec", "selector")
    expressions = selector.get("matchExpressions") or []
    return {*part(selector, "matchLabels"), *(e.get("key") for e in expressions)}


def _check_services(
    spec: InferencePoolSpec, target: Manifest, around: Around, findings: Findings
) -> None:
    labels = part(target.raw, "spec", "template", "metadata", "labels")
    labels = {**labels, ROLE_LABEL: Role.SERVING.value}
    services = [
        service
        for service in around.of("Service", "")
        if (selector := part(service.raw, "spec", "selector"))
        and selector.items() <= labels.items()
    ]
    if not services:
        findings.unchecked.append(f"{target}: no Service in these files selects its pods")
    for service in services:
        if part(service.raw, "spec", "selector").get(ROLE_LABEL) == Role.SERVING:
            continue
        text = f"{service}: its selector lacks {_SERVING}"
        if spec.warm_pool.size == 0:
            findings.warnings.append(
                f"{text}; nothing takes a pod out of service before it is removed, so there is no "
                "drain"
            )
        else:
            findings.problems.append(f"{text}; warm pods would serve, so there is no warm pool")


def _served_names(containers: list[dict[str, Any]]) -> Iterator[str]:
    """Names after vLLM's --served-model-name; it takes several and reports the first."""
    for container in containers:
        words = [
            str(w) for w in (*(container.get("command") or ()), *(container.get("args") or ()))
        ]
        for place, word in enumerate(words):
            flag, equals, value = word.partition("=")
            if flag == "--served-model-name":
                yield from (value,) if equals else words[place + 1 : place + 2]
