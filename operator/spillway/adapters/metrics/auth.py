"""How Spillway shows itself to Prometheus: bearer token, basic, client certificate, tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from requests.auth import AuthBase, HTTPBasicAuth

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from requests import PreparedRequest


@dataclass(frozen=True, slots=True)
class PrometheusAuth:
    """Credentials and TLS for one Prometheus-compatible endpoint.

    Secrets are files, read anew for every request: projected service-account tokens rotate.

    Attributes:
        bearer_token_file: Holds the token of an Authorization header.
        username: For basic authentication, together with ``password_file``.
        password_file: Holds the password.
        headers: Sent with every query, for example ``{"X-Scope-OrgID": "team-a"}`` (Mimir, Cortex)
            or ``{"THANOS-TENANT": "team-a"}``.
        ca_file: PEM bundle that the server's certificate must come from; None is the system's.
        client_certificate_file: PEM client certificate, together with ``client_key_file``.
        client_key_file: Its key.
        insecure_skip_verify: Accept any server certificate.

    Raises:
        ValueError: Contradictory or incomplete credentials, or a header that HTTP does not allow.
    """

    bearer_token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    insecure_skip_verify: bool = False

    def __post_init__(self) -> None:
        if self.bearer_token_file and (self.username or self.password_file):
            msg = "Prometheus auth: give bearer_token_file or username and password_file, not both"
            raise ValueError(msg)
        if (self.username is None) != (self.password_file is None):
            msg = "Prometheus auth: username and password_file go together"
            raise ValueError(msg)
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            msg = "Prometheus auth: client_certificate_file and client_key_file go together"
            raise ValueError(msg)
        if self.ca_file and self.insecure_skip_verify:
            msg = "Prometheus auth: give ca_file or insecure_skip_verify, not both"
            raise ValueError(msg)
        for name, value in self.headers.items():
            if not name or not (name + value).isprintable() or not (name + value).isascii():
                msg = f"Prometheus auth: header {name!r} must be printable ASCII on one line"
                raise ValueError(msg)

    @property
    def verify(self) -> bool | str:
        """What requests calls ``verify``."""
        if self.insecure_skip_verify:
            return False
        return str(self.ca_file) if self.ca_file else True

    @property
    def certificate(self) -> tuple[str, str] | None:
        """What requests calls ``cert``."""
        if self.client_certificate_file is None or self.client_key_file is None:
            return None
        return str(self.client_certificate_file), str(self.client_key_file)


class FileAuth(AuthBase):
    """Adds the Authorization header of a `PrometheusAuth`, reading its files for each request.

    It is set even where there are no credentials: requests would otherwise send those of a
    ``.netrc`` that happens to lie around.
    """

    def __init__(self, auth: PrometheusAuth) -> None:
        self._auth = auth

    def __call__(self, r: PreparedRequest) -> PreparedRequest:  # noqa: D102 - of requests
        if self._auth.bearer_token_file:
            r.headers["Authorization"] = f"Bearer {_secret(self._auth.bearer_token_file)}"
        elif self._auth.username is not None and self._auth.password_file is not None:
            basic = HTTPBasicAuth(self._auth.username, _secret(self._auth.password_file))
            basic(r)
        return r


def _secret(path: Path) -> str:
    """A secret file's one line.

    Raises:
        OSError: It cannot be read; the message names the path.
        ValueError: It is empty or not one line of text. The content is never in the message.
    """
    try:
        secret = path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable():
        msg = f"{path} must hold one line of text"
        raise ValueError(msg)
    return secret
