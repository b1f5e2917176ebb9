"""Settings of the operator, from the environment (``SPILLWAY_*``) and the flags of ``run``.

Every field is an environment variable of the same name in upper case behind the prefix; flags win.
docs/reference/settings.md is generated from this class.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spillway.adapters.kube.lease import unique_identity
from spillway.adapters.metrics import EngineScraper, PrometheusAuth
from spillway.adapters.metrics.queries import matcher
from spillway.core.samples import MAX_SAMPLE_AGE_SECONDS

PREFIX: Final = "SPILLWAY_"
#: A day is beyond every period and deadline here; infinity is none.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
#: Below one a second nothing would ever be let through.
PerSecond = Annotated[float, Field(ge=1, le=10_000, allow_inf_nan=False)]


def _checked_name(value: str) -> str:
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value) is None:
        msg = "must be 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end"
        raise ValueError(msg)
    return value


#: As the API server names namespaces and Leases.
Name = Annotated[str, AfterValidator(_checked_name)]


class LogLevel(StrEnum):
    """How much the operator says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(BaseSettings):
    """What an administrator may set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    kubeconfig: Path | None = None
    """Kubeconfig file; unset: the Pod's ServiceAccount, then KUBECONFIG, then ~/.kube/config."""
    context: str | None = None
    """Context of the kubeconfig; unset: its current one."""
    namespace: Name = "spillway-system"
    """Namespace of the operator itself: its Lease and its ledger live there."""
    watch_namespaces: list[Name] = []
    """Namespaces whose pools are reconciled, as a JSON list; empty: all."""
    identity: str = Field(default_factory=unique_identity, min_length=1, max_length=128)
    """Name of this replica in the Lease: the Pod's name in a cluster; unset: host and random."""
    read_only: bool = False
    """Compute and report, but write nothing except status: every pool behaves as in Advise."""

    prometheus_url: str = "http://prometheus-operated.monitoring.svc:9090"
    """Prometheus-compatible API that has vLLM's and DCGM's series."""
    prometheus_timeout_seconds: Annotated[Seconds, Field(lt=3600)] = 10.0
    """Deadline for one snapshot: all queries of a tick together."""
    prometheus_bearer_token_file: Path | None = None
    """File with a bearer token for Prometheus, read anew each time it changes."""
    prometheus_username: str | None = None
    """User name for basic authentication."""
    prometheus_password_file: Path | None = None
    """File with the password for basic authentication."""
    prometheus_headers: dict[str, str] = {}
    """Extra headers as a JSON object, such as {"X-Scope-OrgID": "ml"}."""
    prometheus_ca_file: Path | None = None
    """CA bundle for Prometheus' certificate; unset: the system's."""
    prometheus_client_certificate_file: Path | None = None
    """Client certificate for Prometheus, with its key in prometheus_client_key_file."""
    prometheus_client_key_file: Path | None = None
    """Key of the client certificate."""
    prometheus_insecure_skip_verify: bool = False
    """Accept any certificate of Prometheus."""
    prometheus_labels: dict[str, str] = {}
    """Label matchers added to every query, such as {"cluster": "eu-1"}."""
    rate_window_seconds: Annotated[float, Field(ge=5, le=900)] = 60.0
    """Window of the rates; at least four scrape intervals."""
    max_sample_age_seconds: Annotated[Seconds, Field(le=MAX_SAMPLE_AGE_SECONDS)] = 60.0
    """Samples older than this count as missing; at most 60."""

    price_catalog_file: Path | None = None
    """Price catalog (YAML) for what pools declare no price for, read anew when it changes."""
    price_map_file: Path | None = None
    """Prices of models at APIs as LiteLLM publishes them (JSON); asked after the catalog."""

    scrape_url_template: str = "http://{ip}:{port}{path}"
    """Address of a pod's metrics page; may also name {namespace} and {pod}."""
    scrape_timeout_seconds: Seconds = 0.8
    """Deadline for one metrics page."""
    scrape_pages_per_second: PerSecond = 200.0
    """Most pages a second that are scraped directly; the rest waits its turn."""

    slow_tick_seconds: Seconds = 15.0
    """Period of the loop that sets replicas, warm pools and prices."""
    fast_tick_seconds: Seconds = 1.0
    """Period of the loop that sets overflow."""
    node_lead_seconds: Seconds = 300.0
    """Usual time for a node to appear; a pod unschedulable for longer is a GPU shortage."""
    watch_nodes: bool = True
    """Watch nodes, for zones, spot interruptions and free GPUs; needs a ClusterRole."""
    nodes_may_be_added: bool = True
    """Whether an autoscaler adds nodes. If not, pools share the GPUs that are there."""
    overflow_lease_seconds: Seconds = 45.0
    """Life of an overflow value, renewed at half of it: that half must outlast a failover."""

    lease_name: Name = "spillway-operator"
    """Name of the Lease that elects the writer."""
    lease_duration_seconds: Seconds = 15.0
    """How long a leader that stopped renewing keeps others waiting."""
    lease_renew_seconds: Seconds = 10.0
    """Deadline for a renewal; a leader that misses it stops writing."""
    lease_retry_seconds: Seconds = 2.0
    """Period of renewals and of attempts to take over."""

    api_timeout_seconds: Seconds = 10.0
    """Deadline for one call to the API server."""
    writes_per_second: PerSecond = 17.0
    """Most writes a second to the API server; bursts of as many are let through. The lease and the
    ledger do not wait in this queue, and need up to three more."""

    http_host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - probes and gateways come from other hosts
    """Address on which /healthz, /readyz, /metrics and /v1/overflow answer."""
    connect_timeout_seconds: Seconds = 60.0
    """How long to wait at start for an API server that does not answer, before giving up."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of the same; 0 takes a free one."""
    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""

    @model_validator(mode="after")
    def _lease_times_in_order(self) -> Self:
        if not self.lease_retry_seconds < self.lease_renew_seconds < self.lease_duration_seconds:
            msg = (
                f"{PREFIX}LEASE_RETRY_SECONDS < {PREFIX}LEASE_RENEW_SECONDS < "
                f"{PREFIX}LEASE_DURATION_SECONDS must hold, got {self.lease_retry_seconds} / "
                f"{self.lease_renew_seconds} / {self.lease_duration_seconds}"
            )
            raise ValueError(msg)
        failover = self.lease_duration_seconds + self.lease_retry_seconds
        # A value is renewed when half of its life is gone: that half is all that is certain.
        if self.overflow_lease_seconds <= 2 * failover:
            msg = (
                f"{PREFIX}OVERFLOW_LEASE_SECONDS must be more than twice a failover "
                f"({PREFIX}LEASE_DURATION_SECONDS + {PREFIX}LEASE_RETRY_SECONDS = {failover}), "
                f"got {self.overflow_lease_seconds}"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _prometheus_credentials(self) -> Self:
        self.prometheus_auth()
        return self

    @field_validator("prometheus_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            msg = "must be http(s)://host[:port][/path]"
            raise ValueError(msg)
        if "@" in parts.netloc:
            msg = (
                "must not carry credentials, which would end up in logs; use "
                f"{PREFIX}PROMETHEUS_USERNAME and {PREFIX}PROMETHEUS_PASSWORD_FILE"
            )
            raise ValueError(msg)
        return value

    @field_validator("prometheus_labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for label, wanted in value.items():
            matcher(label, wanted)
        return value

    @field_validator("scrape_url_template")
    @classmethod
    def _template(cls, value: str) -> str:
        EngineScraper(url_template=value)
        return value

    def prometheus_auth(self) -> PrometheusAuth:
        """How the operator shows itself to Prometheus.

        Raises:
            ValueError: The settings contradict each other.
        """
        return PrometheusAuth(
            bearer_token_file=self.prometheus_bearer_token_file,
            username=self.prometheus_username,
            password_file=self.prometheus_password_file,
            headers=self.prometheus_headers,
            ca_file=self.prometheus_ca_file,
            client_certificate_file=self.prometheus_client_certificate_file,
            client_key_file=self.prometheus_client_key_file,
            insecure_skip_verify=self.prometheus_insecure_skip_verify,
        )
