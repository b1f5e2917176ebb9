"""What the edge of a pool is told: whom it serves, whom it pays, what must never leave."""

from __future__ import annotations

from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from spillway.api.references import Name

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9!#$&'*+.^_`|~-]{1,100}$")]
#: Printable ASCII without quotes: these texts go into a script.
Text = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{1,253}$")]
_PATHS: Final = ("/v1/chat/completions", "/v1/completions")


class _Settings(BaseModel):
    """camelCase outside; what is not known is an error, so that a typo is not ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


class Pool(_Settings):
    """The InferencePool whose value the edge goes by."""

    namespace: Name
    """Its namespace."""
    name: Name
    """Its name."""


class Replicas(_Settings):
    """The serving replicas."""

    address: Host
    """A name that resolves to every serving pod: a headless Service that selects role serving."""
    port: Port = 8000
    """Where the engines listen."""
    most_requests_each: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Requests in flight to one replica at most; more wait at the edge."""


class OperatorAddress(_Settings):
    """Where the operator serves the overflow value."""

    address: Host
    """A name that resolves to every replica of the operator; the leader is found by its answer."""
    port: Port = 8080
    """Its HTTP port."""


class EdgeProvider(_Settings):
    """How a provider is reached. What it charges and takes is the InferencePool's to say."""

    name: Name
    """As the InferencePool names it."""
    address: Host
    """Its host name."""
    port: Port = 443
    """Its port."""
    tls: bool = True
    """Whether it speaks TLS; its certificate is checked."""
    path_prefix: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]{0,200}$")] = "/v1"
    """Takes the place of /v1 in the path."""
    model: Text | None = None
    """Model name there; unset: the request's own."""
    key_file: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]{1,253}$")] | None = None
    """A file with its key, read again every ten seconds; unset: it needs none."""
    key_header: HeaderName = "authorization"
    """Header that carries the key."""
    key_prefix: Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{0,50}$")] = "Bearer "
    """Before the key."""


class Mark(_Settings):
    """A header that marks a request."""

    name: HeaderName
    """Its name."""
    values: list[Text] = []
    """Values that mark it, in any case; none: any value does."""


class Stays(_Settings):
    """Requests that never leave."""

    headers: list[Mark] = [Mark(name="x-spillway-stay")]
    """Marked by a header: a data class, a team, a tenant."""
    keys_file: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]{1,253}$")] | None = None
    """A file of API keys, one a line, whose requests stay. While it can't be read, all stay."""
    models: list[Text] = []
    """Marked by the model name, or alias, that they ask for."""


class EdgeSettings(_Settings):
    """The edge of one pool."""

    pool: Pool
    """The pool."""
    replicas: Replicas
    """Where it is served."""
    operator: OperatorAddress
    """Who decides."""
    providers: Annotated[list[EdgeProvider], Field(max_length=8)] = []
    """Who is paid."""
    stays: Stays = Stays()
    """What never leaves."""
    models: list[Text] = []
    """Model names whose requests may leave; none: all."""
    paths: list[Text] = list(_PATHS)
    """Paths whose requests may leave."""
    listen: Port = 8000
    """Port for clients."""
    metrics_port: Port = 9090
    """Port of /metrics and /ready."""
    address: Host = "0.0.0.0"  # noqa: S104 - a pod serves its network
    """Address that both listen on."""
    gateways: Annotated[int, Field(ge=1, le=1000)] = 1
    """Edges of this pool: equal parts of the bound until the operator deals it."""
    max_body_bytes: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = 33_554_432
    """Longest request body; a longer one is refused with 413."""
    dns_resolver: Host | None = None
    """Address of a DNS server, with its port after a colon; unset: the system's."""
    admin_port: Port = 9901
    """Envoy's own administration, on loopback alone."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [provider.name for provider in self.providers]
        if len(names) != len(set(names)):
            msg = f"providers: names must be unique, got {', '.join(names)}"
            raise ValueError(msg)
        ports = [self.listen, self.metrics_port, self.admin_port]
        if len(ports) != len(set(ports)):
            msg = f"listen, metricsPort, adminPort: must differ, got {ports}"
            raise ValueError(msg)
        return self


def read_settings(text: str) -> EdgeSettings:
    """The settings of a YAML text.

    Raises:
        ValueError: It is no YAML mapping, or a field does not fit (a pydantic ValidationError).
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"not YAML: {error}"
        raise ValueError(msg) from error
    return EdgeSettings.model_validate(document)
