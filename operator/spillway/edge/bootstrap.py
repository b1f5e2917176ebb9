"""Envoy's configuration for the edge of one pool.

    client > edge (admission.lua, route.lua) > local
                                             > overflow (overflow.lua) > local_again
                                                                       > paying > provider_A
                                                                                > provider_B
                                                                                > local_last

Everything after the first arrow is inside one Envoy: ``overflow`` and the providers are internal
listeners, so that a request which a provider refuses is tried at the next one by Envoy's own retry,
and at the replicas in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from spillway.edge import lua
from spillway.edge.statistics import stats_config, tokens_log, usd_log

if TYPE_CHECKING:
    from spillway.edge.settings import EdgeProvider, EdgeSettings

_TYPE: Final = "@type"
_API: Final = "type.googleapis.com/envoy."
#: Beyond what a pool takes: Envoy's own bounds (1024) are not to be what decides.
_UNBOUNDED: Final = 1_000_000
_CONNECT_SECONDS: Final = 2
#: A provider that answers so gives the request to the next one; what the client did wrong
#: (400, 404 of a model, 413, 422) is the client's to see.
_NEXT_PROVIDER: Final = [401, 402, 403, 408, 429, 500, 502, 503, 504, 529]
#: Another replica gets what never reached one. An engine's own answer is never asked for twice.
_NEXT_REPLICA: Final = "connect-failure,refused-stream"
_OVERFLOW: Final = "overflow"
_PAYING: Final = "paying"
#: The replicas under names of their own, so that statistics tell what came which way: turned back
#: before anybody was paid, and given back by every provider.
_AGAIN: Final = "local_again"
_LAST: Final = "local_last"


def build(settings: EdgeSettings, gateway: str) -> dict[str, Any]:
    """The bootstrap.

    Args:
        settings: Of the edge.
        gateway: Name of this very Envoy among the edges of the pool: its pod's.
    """
    providers = settings.providers
    return {
        "admin": {"address": _socket("127.0.0.1", settings.admin_port)},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    _TYPE: f"{_API}extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ],
        **stats_config(),
        "static_resources": {
            "listeners": [
                _edge(settings, gateway),
                _overflow(settings, gateway),
                *(_provider(settings, provider) for provider in providers),
                _paying(settings),
                _last(settings),
                _metrics(settings),
            ],
            "clusters": [
                _replicas(settings, "local"),
                _replicas(settings, _AGAIN),
                _replicas(settings, _LAST),
                _internal(_OVERFLOW, [_OVERFLOW]),
                _internal(_PAYING, [_PAYING]),
                *(_paid(provider, providers) for provider in providers),
                *(_upstream(settings, provider) for provider in providers),
                _operator(settings),
                _cluster("admin", [_socket("127.0.0.1", settings.admin_port)]),
            ],
        },
    }


# Listeners


def _edge(settings: EdgeSettings, gateway: str) -> dict[str, Any]:
    specifier = {
        "extension": {
            "name": "envoy.router.cluster_specifier_plugin.lua",
            "typed_config": {
                _TYPE: f"{_API}extensions.router.cluster_specifiers.lua.v3.LuaConfig",
                "source_code": {"inline_string": lua.route()},
                "default_cluster": "local",
            },
        }
    }
    route = {
        "match": {"prefix": "/"},
        "route": {
            "inline_cluster_specifier_plugin": specifier,
            "retry_policy": _retry(_NEXT_REPLICA, 3, other_host=True),
        },
    }
    script = lua.admission(settings, gateway)
    manager = _manager(settings, "edge", [route], script, tokens_log())
    return _listener("edge", _socket(settings.address, settings.listen), manager, settings)


def _overflow(settings: EdgeSettings, gateway: str) -> dict[str, Any]:
    back = _back_route(_AGAIN)
    back["match"]["headers"] = [{"name": "x-spillway-to", "string_match": {"exact": "local"}}]
    routes = [back, {"match": {"prefix": "/"}, "route": {"cluster": _PAYING}}]
    script = lua.overflow(settings, gateway)
    manager = _manager(settings, _OVERFLOW, routes, script, usd_log())
    return _internal_listener(_OVERFLOW, manager, settings)


def _paying(settings: EdgeSettings) -> dict[str, Any]:
    """The provider that was chosen, then whoever takes it: the next providers, the replicas."""
    retry = {
        **_retry(
            f"retriable-status-codes,reset-before-request,{_NEXT_REPLICA}",
            len(settings.providers),
        ),
        "retriable_status_codes": _NEXT_PROVIDER,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                _TYPE: f"{_API}extensions.retry.priority.previous_priorities.v3"
                ".PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }
    routes = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": "x-spillway-to", "string_match": {"exact": provider.name}}],
            },
            "route": {"cluster": f"paid_{provider.name}", "retry_policy": retry},
        }
        for provider in settings.providers
    ]
    routes.append(_back_route(_LAST))
    return _internal_listener(_PAYING, _manager(settings, _PAYING, routes), settings)


def _provider(settings: EdgeSettings, provider: EdgeProvider) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"provider_{provider.name}"}}
    name = f"provider_{provider.name}"
    manager = _manager(settings, name, [route], lua.provider(settings, provider))
    return _internal_listener(name, manager, settings)


def _last(settings: EdgeSettings) -> dict[str, Any]:
    return _internal_listener(_LAST, _manager(settings, _LAST, [_back_route(_LAST)]), settings)


def _back_route(cluster: str) -> dict[str, Any]:
    """Back to the replicas, and the answer says so."""
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": cluster,
            "retry_policy": _retry(_NEXT_REPLICA, 3, other_host=True),
        },
        "response_headers_to_add": [
            {
                "header": {"key": "x-spillway-served-by", "value": "local"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _metrics(settings: EdgeSettings) -> dict[str, Any]:
    page = {
        "match": {"path": "/metrics"},
        "route": {
            "cluster": "admin",
            # Only what metrics.lua reads; the page is made by Envoy's main thread.
            "regex_rewrite": {
                "pattern": {"regex": "^/metrics$"},
                "substitution": "/stats/prometheus?filter="
                "%28spillway_gateway|upstream_rq_%28total|active|pending_active%29%24%29",
            },
        },
    }
    ready = {
        "match": {"path": "/ready"},
        "route": {"cluster": "admin"},
        "typed_per_filter_config": {
            "envoy.filters.http.lua": {
                _TYPE: f"{_API}extensions.filters.http.lua.v3.LuaPerRoute",
                "disabled": True,
            }
        },
    }
    manager = _manager(settings, "metrics", [page, ready], lua.metrics(settings))
    return _listener("metrics", _socket(settings.address, settings.metrics_port), manager, settings)


def _listener(
    name: str, address: dict[str, Any], manager: dict[str, Any], settings: EdgeSettings
) -> dict[str, Any]:
    return {
        "name": name,
        "address": address,
        "per_connection_buffer_limit_bytes": settings.max_body_bytes,
        "filter_chains": [{"filters": [manager]}],
    }


def _internal_listener(
    name: str, manager: dict[str, Any], settings: EdgeSettings
) -> dict[str, Any]:
    return {
        "name": name,
        "internal_listener": {},
        "per_connection_buffer_limit_bytes": settings.max_body_bytes,
        "filter_chains": [{"filters": [manager]}],
    }


def _manager(
    settings: EdgeSettings,
    name: str,
    routes: list[dict[str, Any]],
    script: str | None = None,
    access_log: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    filters: list[dict[str, Any]] = []
    if script is not None:
        filters.append(
            {
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    _TYPE: f"{_API}extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": script},
                },
            }
        )
    filters.append(
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                _TYPE: f"{_API}extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": True,
            },
        }
    )
    for route in routes:
        # A long answer is not a stuck one: clients set their own limits.
        route["route"] |= {"timeout": "0s", "idle_timeout": "0s"}
        route["request_body_buffer_limit"] = settings.max_body_bytes
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            _TYPE: f"{_API}extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": name,
            "stream_idle_timeout": "0s",
            "use_remote_address": name == "edge",
            "generate_request_id": name == "edge",
            "normalize_path": True,
            "merge_slashes": True,
            "access_log": access_log or [],
            "route_config": {
                "name": name,
                "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}],
            },
            "http_filters": filters,
        },
    }


def _retry(on: str, times: int, *, other_host: bool = False) -> dict[str, Any]:
    policy: dict[str, Any] = {
        "retry_on": on,
        "num_retries": times,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.010s"},
    }
    if other_host:
        policy |= {
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        _TYPE: f"{_API}extensions.retry.host.previous_hosts.v3"
                        ".PreviousHostsPredicate"
                    },
                }
            ],
            "host_selection_retry_max_attempts": 200,
        }
    return policy


# Clusters


def _replicas(settings: EdgeSettings, name: str) -> dict[str, Any]:
    """The serving replicas, the one with the fewest requests first."""
    replicas = settings.replicas
    cluster = _named(settings, name, replicas.address, replicas.port)
    return {
        **cluster,
        "lb_policy": "LEAST_REQUEST",
        # Replicas are few and requests are long, so more than the usual two are compared. By chance
        # still: a dead replica has the fewest requests, and a retry has to find another one.
        "least_request_lb_config": {"choice_count": 4},
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {
            **cluster["circuit_breakers"],
            "per_host_thresholds": [{"max_connections": replicas.most_requests_each}],
        },
        # A replica that refuses connections is left out for a while, but never the last one.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "max_ejection_percent": 90,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "base_ejection_time": "5s",
            "max_ejection_time": "30s",
            "interval": "1s",
        },
    }


def _paid(provider: EdgeProvider, providers: list[EdgeProvider]) -> dict[str, Any]:
    """One provider first, the others in their order, the replicas last."""
    others = [other.name for other in providers if other.name != provider.name]
    ways = [*(f"provider_{name}" for name in (provider.name, *others)), _LAST]
    return _internal(f"paid_{provider.name}", ways)


def _internal(name: str, listeners: list[str]) -> dict[str, Any]:
    """A cluster of internal listeners, each of lower priority than the one before."""
    cluster = _cluster(name, [])
    cluster["load_assignment"]["endpoints"] = [
        {
            "priority": priority,
            "lb_endpoints": [
                {
                    "endpoint": {
                        "address": {
                            "envoy_internal_address": {
                                "server_listener_name": listener,
                                "endpoint_id": name,
                            }
                        }
                    }
                }
            ],
        }
        for priority, listener in enumerate(listeners)
    ]
    return cluster


def _upstream(settings: EdgeSettings, provider: EdgeProvider) -> dict[str, Any]:
    cluster = _named(settings, f"provider_{provider.name}", provider.address, provider.port)
    if provider.tls:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                _TYPE: f"{_API}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": provider.address,
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": provider.address}}
                        ],
                    }
                },
            },
        }
    return cluster


def _operator(settings: EdgeSettings) -> dict[str, Any]:
    """The operator's leader: it alone deals out the allowance. While none leads, any replica."""
    operator = settings.operator
    return {
        **_named(settings, "operator", operator.address, operator.port),
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/leaderz"},
            }
        ],
    }


def _cluster(name: str, addresses: list[dict[str, Any]]) -> dict[str, Any]:
    bounds = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), _UNBOUNDED
    )
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "circuit_breakers": {"thresholds": [bounds]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}
            ],
        },
    }


def _named(settings: EdgeSettings, name: str, address: str, port: int) -> dict[str, Any]:
    """A cluster of everything that a name resolves to, looked up again every second."""
    dns: dict[str, Any] = {
        _TYPE: f"{_API}extensions.clusters.dns.v3.DnsCluster",
        "dns_refresh_rate": "1s",
        "dns_lookup_family": "V4_PREFERRED",
    }
    if settings.dns_resolver is not None:
        host, _, resolver_port = settings.dns_resolver.partition(":")
        dns["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                _TYPE: f"{_API}extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [_socket(host, int(resolver_port or 53))],
            },
        }
    cluster = _cluster(name, [_socket(address, port)])
    del cluster["type"]
    return {**cluster, "cluster_type": {"name": "envoy.clusters.dns", "typed_config": dns}}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
