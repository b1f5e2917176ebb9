"""Names of things that a pool refers to, all in its own namespace.

Names become parts of API paths and of selectors, so they are held to what Kubernetes itself takes:
a name with a slash in it must not lead into another namespace.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator

from spillway.api.quantities import matching, text_schema

_LABEL: Final = (
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
    63,
    'a name of lower-case letters, digits and "-", at most 63 characters',
)
_SUBDOMAIN: Final = (
    r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
    253,
    'a name of lower-case letters, digits, "-" and ".", at most 253 characters',
)
_KIND: Final = (r"^[A-Z][A-Za-z0-9]{0,62}$", 63, 'a kind such as "Deployment"')
_API_VERSION: Final = (
    r"^([a-z0-9]([-a-z0-9.]{0,230}[a-z0-9])?/)?v[0-9]{1,3}((alpha|beta)[0-9]{1,3})?$",
    253,
    'a group and version such as "apps/v1"',
)
_PATH: Final = (r"^/[A-Za-z0-9._/-]{0,252}$", 253, 'a path such as "/metrics"')


def _validator(text: tuple[str, int, str]) -> BeforeValidator:
    pattern, _, accepted = text
    return BeforeValidator(lambda value: matching(value, pattern, accepted))


#: A DNS label: names in the pool, and of Services.
Name = Annotated[str, _validator(_LABEL), text_schema(*_LABEL)]
#: A DNS subdomain: names of objects in Kubernetes.
ObjectName = Annotated[str, _validator(_SUBDOMAIN), text_schema(*_SUBDOMAIN)]
#: Kind of an object.
Kind = Annotated[str, _validator(_KIND), text_schema(*_KIND)]
#: ``group/version`` of an object.
ApiVersion = Annotated[str, _validator(_API_VERSION), text_schema(*_API_VERSION)]
#: Path of an HTTP endpoint.
UrlPath = Annotated[str, _validator(_PATH), text_schema(*_PATH)]
