"""The few reads of the Kubernetes API that logs need: JSON and a log stream, errors as sentences.

The official client brings the kubeconfig's ways to log in; its models are left alone, because a list of pods as
plain JSON takes a tenth of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import KubectlSettings
from quarterdeck.logs.sources import outside

LONGEST_WAIT = 5.0
LARGEST = 64 << 20
AT_ONCE = 12
"""Requests in flight at the API server, however many tools are called."""
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class NotThere(Exception):
    """404: the object, or the kind, does not exist."""


class Kube:
    def __init__(self, settings: KubectlSettings, timeout_s: float) -> None:
        from kubernetes import client, config  # takes most of a second: paid with the first call, not at start-up

        self.settings = settings
        self.timeout_s = timeout_s
        configuration = client.Configuration()
        try:
            own = _load(config, settings, configuration)
        except Exception as error:  # the loader raises whatever a broken file makes it raise
            raise Refusal(
                f"No usable kubeconfig: {outside(str(error), 200).rstrip('.')}. Set KUBECONFIG or "
                "QUARTERDECK_KUBECTL_KUBECONFIG to one that works with kubectl; `quarterdeck world` brings a practice "
                "cluster."
            ) from None
        configuration.retries = False
        configuration.connection_pool_maxsize = AT_ONCE
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        if not configuration.verify_ssl:
            import urllib3  # its owner chose so in the kubeconfig: one line a request on stderr helps nobody

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.api = client.ApiClient(configuration)
        self.host = str(configuration.host)
        self.namespace = settings.namespace or own or "default"
        self.allow(self.namespace)

    def allow(self, namespace: str) -> None:
        """Refuse a namespace that settings do not list."""
        if self.settings.namespaces and namespace not in self.settings.namespaces:
            raise Refusal(
                f"The namespace {namespace[:63]!r} may not be read."
                f" These may: {', '.join(self.settings.namespaces[:20])}."
            )

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        with self._slots:
            return self._get(path, query or {})

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        response = self._call(path, query)
        try:
            body = response.read(LARGEST + 1, decode_content=True)
            if len(body) > LARGEST:
                raise Refusal(f"The API server's answer on {path} is larger than {LARGEST >> 20} MB.")
            return from_json(body)
        except ValueError:
            raise Refusal(f"The API server at {self.host} sent half an answer, or no JSON. Try again.") from None
        except Exception as error:
            raise self._broken(error) from None
        finally:
            response.release_conn()

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        with self._slots:
            response = self._call(path, query)
            try:
                yield from response.stream(256 << 10, decode_content=True)
            except Exception as error:
                raise self._broken(error) from None
            finally:
                response.close()

    def _call(self, path: str, query: Mapping[str, str]) -> Any:
        """The raw response of a GET that succeeded. Asked again once when the server is busy."""
        for attempt in (1, 2):
            headers: dict[str, str] = {"Accept": "application/json, */*"}
            parameters: list[tuple[str, str]] = []
            try:
                self.api.update_params_for_auth(
                    headers, parameters, ["BearerToken"], f"/{path}", "GET", None, request_auth=None
                )
                response = self.api.rest_client.pool_manager.request(
                    "GET",
                    f"{self.host}/{path}",
                    fields={**query, **dict(parameters)},
                    headers=headers,
                    preload_content=False,
                    timeout=self._timeout(),
                    retries=False,
                )
            except Exception as error:
                raise self._broken(error) from None
            if response.status < 300:
                return response
            body = response.read(65_536, decode_content=True)
            wait = response.headers.get("Retry-After", "1")
            response.release_conn()
            if response.status in (429, 503) and attempt == 1 and wait.isdigit() and int(wait) <= LONGEST_WAIT:
                time.sleep(int(wait))
                continue
            break
        raise self._refused(response.status, path, _message(body))

    def _timeout(self) -> Any:
        from urllib3 import Timeout

        return Timeout(connect=min(5.0, self.timeout_s), read=self.timeout_s)

    def _refused(self, status: int, path: str, message: str) -> Exception:
        said = f": {message}" if message else ""
        match status:
            case 404:
                return NotThere(message or "not found")
            case 401:
                return Refusal(f"The API server does not accept our credentials (401){said}. Log in again, then retry.")
            case 403:
                return Refusal(f"Not allowed (403){said}. Ask for the right to get and list pods and pods/log.")
            case 429 | 503:
                return Refusal(f"The API server is busy ({status}){said}. Try again in a moment.")
            case 400:
                return Refusal(message or "the API server refused the request (400)")
        return Refusal(f"The API server answered {status}{said}.")

    def _broken(self, error: Exception) -> Exception:
        if isinstance(error, Refusal | NotThere):
            return error
        kind = type(error).__name__
        if "Timeout" in kind:
            return Refusal(f"The API server at {self.host} did not answer within {self.timeout_s:g} s. Try again.")
        if "SSL" in kind:
            return Refusal(
                f"The TLS connection to {self.host} failed: {outside(str(error), 160)}. Check the kubeconfig."
            )
        return Refusal(f"The API server at {self.host} cannot be reached ({kind}). Is the cluster up?")


def _load(config: Any, settings: KubectlSettings, configuration: Any) -> str:
    """Fill the configuration from the kubeconfig, or from the pod we run in; returns the context's own namespace."""
    path = settings.kubeconfig or None
    wanted = settings.contexts[0] if settings.contexts else None
    try:
        contexts, active = config.list_kube_config_contexts(path)
    except config.ConfigException:
        if path or wanted or not _SERVICE_ACCOUNT.exists():  # outside of a cluster the file is what is missing
            raise
        config.load_incluster_config(configuration)
        return _own_namespace()
    config.load_kube_config(path, wanted, configuration, persist_config=False)
    chosen = next((one for one in contexts if one["name"] == wanted), active)
    return str(chosen["context"].get("namespace") or "")


def _message(body: bytes) -> str:
    try:
        return outside(str(from_json(body)["message"]), 240)
    except (ValueError, KeyError, TypeError):
        return outside(body[:200].decode(errors="replace"), 120)


def _own_namespace() -> str:
    try:
        return _SERVICE_ACCOUNT.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
