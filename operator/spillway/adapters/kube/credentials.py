"""Finds out how to talk to the API server: a kubeconfig, or the pod's ServiceAccount.

The official client does the reading (certificates, tokens, exec plugins, OIDC); this module picks
the source and turns what can go wrong into one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration

from spillway.adapters.kube.errors import NotConfigured

#: What client-go's loading rules read, in their order.
_DEFAULT_KUBECONFIG: Final = "~/.kube/config"
_IN_CLUSTER_ENV: Final = "KUBERNETES_SERVICE_HOST"


def find_kubeconfig(kubeconfig: str | None) -> str | None:
    """The kubeconfig to read, or None for the pod's own ServiceAccount.

    An explicit path wins; then the pod's ServiceAccount where there is one; then ``KUBECONFIG``
    and ``~/.kube/config``, as kubectl does.

    Raises:
        NotConfigured: There is no configuration at all, or the explicit path leads nowhere.
    """
    if kubeconfig:
        _require_one(kubeconfig, "the kubeconfig")
        return kubeconfig
    if os.environ.get(_IN_CLUSTER_ENV):
        return None
    from_env = os.environ.get("KUBECONFIG")
    if from_env:
        _require_one(from_env, "KUBECONFIG")
        return from_env
    default = Path(_DEFAULT_KUBECONFIG).expanduser()
    if default.is_file():
        return str(default)
    msg = (
        "no cluster is configured: this is no pod (KUBERNETES_SERVICE_HOST is unset), KUBECONFIG "
        f"is unset and {default} does not exist; pass --kubeconfig, or set KUBECONFIG"
    )
    raise NotConfigured(msg)


def _require_one(paths: str, what: str) -> None:
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
        msg = f"{what} {paths} does not exist or is no file; name an existing kubeconfig"
        raise NotConfigured(msg)


async def load(kubeconfig: str | None, context: str | None) -> Any:
    """Read a configuration of the official client.

    Args:
        kubeconfig: What `find_kubeconfig` returned.
        context: The kubeconfig's context; None takes its current one.

    Raises:
        NotConfigured: The source can't be read or has no such context.
    """
    configuration = Configuration()
    source = "the pod's ServiceAccount" if kubeconfig is None else f"kubeconfig {kubeconfig}"
    try:
        if kubeconfig is None:
            # Re-reads the projected token every minute.
            kube_config.load_incluster_config(client_configuration=configuration)
        else:
            await kube_config.load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except asyncio.CancelledError:
        raise
    except Exception as error:
        # The loaders raise what they stumble on: ConfigException, KeyError, YAML and OS errors.
        wanted = f" (context {context})" if context else ""
        why = " ".join(str(error).split())
        msg = f"{source}{wanted} can't be used: {why}; check it with: kubectl config view --minify"
        raise NotConfigured(msg) from error
    # Lists of several thousand pods and one watch for each informer share the pool.
    configuration.connection_pool_maxsize = 64
    return configuration
