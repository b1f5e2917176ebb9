"""Values of the chart that tests share, and the kinds of others that it renders."""

from __future__ import annotations

from typing import Any, Final

#: Everything that can be switched on.
#: All that the chart can do with LiteLLM but the semantic cache, which needs a Redis with search.
LITELLM: dict[str, Any] = {
    "enabled": True,
    "masterKeySecret": {"name": "litellm", "key": "master-key"},
    "keys": [{"variable": "TOGETHER_API_KEY", "name": "together", "key": "api-key"}],
    "models": [
        {
            "model_name": "llama-8b",
            "litellm_params": {
                "model": "hosted_vllm/meta-llama/Llama-3.1-8B-Instruct",
                "api_base": "http://llama-8b.serving.svc:8000/v1",
                "api_key": "none",
            },
            "model_info": {"spillway_pool": "serving/llama-8b"},
        },
        {
            "model_name": "llama-8b",
            "litellm_params": {
                "model": "together_ai/meta-llama/Llama-3.1-8B-Instruct-Turbo",
                "api_key": "os.environ/TOGETHER_API_KEY",
                "rpm": 3000,
            },
            "model_info": {"spillway_pool": "serving/llama-8b", "spillway_provider": "together"},
        },
        {
            "model_name": "llama-70b",
            "litellm_params": {
                "model": "hosted_vllm/meta-llama/Llama-3.3-70B-Instruct",
                "api_base": "http://llama-70b.serving.svc:8000/v1",
                "api_key": "none",
            },
            "model_info": {"spillway_pool": "serving/llama-70b"},
        },
    ],
    "stays": ["header:x-data-class=restricted", "team:legal", "model:llama-private"],
    "fallbacks": [{"llama-8b": ["llama-70b"]}],
    "modelAliases": {"llama-private": "llama-8b"},
    "complexityRouting": {
        "auto": {
            "default": "llama-8b",
            "tiers": {
                "SIMPLE": "llama-8b",
                "MEDIUM": "llama-8b",
                "COMPLEX": "llama-70b",
                "REASONING": "llama-70b",
            },
        },
    },
    "providerBudgets": {"together_ai": {"budget_limit": 100, "time_period": "1d"}},
}
#: A Redis, and what it makes possible.
SEMANTIC_CACHE: dict[str, Any] = {
    **LITELLM,
    "redis": {"host": "redis.cache.svc", "passwordSecret": {"name": "redis", "key": "password"}},
    "semanticCache": {"enabled": True, "embeddingModel": "embeddings"},
    "extraSettings": {"litellm_settings": {"drop_params": True}},
}
EVERYTHING: Final[dict[str, Any]] = {
    "commonLabels": {"example.com/team": "ml"},
    "commonAnnotations": {"example.com/note": "x"},
    "image": {"repository": "r.example.com/spillway", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "global": {
        "imageRegistry": "mirror.example.com/",
        "imagePullSecrets": [{"name": "pull"}, {"name": "mirror"}],
        "nodeSelector": {"example.com/pool": "system"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "parents": {"own": "values"},
    },
    "replicaCount": 3,
    "revisionHistoryLimit": 3,
    "strategy": {"type": "Recreate"},
    "extraContainers": [{"name": "signer", "image": "signer:1"}],
    "extraInitContainers": [{"name": "wait", "image": "wait:1"}],
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "{{ .Release.Name }}-extra",
                "namespace": "{{ .Release.Namespace }}",
                "labels": {"app.kubernetes.io/part-of": "spillway"},
            },
        },
    ],
    "crds": {"annotations": {"argocd.argoproj.io/sync-options": "ServerSideApply=true"}},
    "deploymentAnnotations": {"example.com/reload": "true"},
    "livenessProbe": {"failureThreshold": 5},
    "schedulerName": "default-scheduler",
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["prometheus.example.com"]}],
    "dnsPolicy": "ClusterFirst",
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "edge": {
        "pools": [
            {
                "namespace": "serving",
                "name": "llama-8b",
                "selector": {"app": "llama-8b"},
                "mostRequestsEach": 256,
                "models": ["meta-llama/Llama-3.1-8B-Instruct"],
                "stays": {
                    "headers": [{"name": "x-data-class", "values": ["restricted"]}],
                    "keysSecret": {"name": "sovereign", "key": "keys"},
                },
                "providers": [
                    {
                        "name": "together",
                        "address": "api.together.xyz",
                        "model": "meta-llama/Llama-3.1-8B-Instruct-Turbo",
                        "keySecret": {"name": "together", "key": "api-key"},
                    },
                    {
                        "name": "deepinfra",
                        "address": "api.deepinfra.com",
                        "pathPrefix": "/v1/openai",
                    },
                ],
            },
            {"namespace": "batch", "name": "qwen", "selector": {"app": "qwen"}},
        ],
    },
    "litellm": LITELLM,
    "podDisruptionBudget": {"minAvailable": "50%"},
    "readOnly": False,
    "watchNamespaces": ["serving", "batch"],
    "settings": {"slow_tick_seconds": 20, "log_level": "debug", "prometheus_labels": {"a": "b"}},
    "extraArgs": ["--read-only"],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "rbac": {"aggregatePoolEditor": True},
    "serviceAccount": {"annotations": {"example.com/role": "r"}, "labels": {"example.com/e": "f"}},
    "service": {
        "annotations": {"example.com/scrape": "true"},
        "labels": {"example.com/g": "h"},
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
    },
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"example.com/c": "d"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "admissionPolicy": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "priceCatalog": {"prices": {"accelerators": {"NVIDIA-L40S": {"onDemand": "0.95"}}}},
    "serviceMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "annotations": {"example.com/i": "j"},
        "scrapeTimeout": "10s",
        "relabelings": [{"targetLabel": "cluster", "replacement": "eu-1"}],
        "metricRelabelings": [{"regex": "spillway_tick_.*", "action": "drop"}],
    },
    "podMonitor": {"enabled": True, "scrapeTimeout": "2s"},
    "prometheusRule": {
        "enabled": True,
        "disabled": ["SpillwayOverflowForLong"],
        "additionalGroups": [{"name": "ours", "rules": [{"record": "a", "expr": "vector(1)"}]}],
    },
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "ML"}},
    "releaseHook": {"timeoutSeconds": 120},
    "routeReset": {"schedule": "*/5 * * * *"},
}


def monitoring_crds() -> list[dict[str, Any]]:
    """The Prometheus operator's kinds, as far as an API server must know them to take objects."""
    names = {
        "ServiceMonitor": "servicemonitors",
        "PodMonitor": "podmonitors",
        "PrometheusRule": "prometheusrules",
    }
    spec = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": spec}}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
        for kind, plural in names.items()
    ]
