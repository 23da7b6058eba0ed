"""One cluster through the official client: plain JSON in and out, bounded waits, errors as sentences.

The client brings every way to log in; its model classes are left alone, because making 5,000 of them takes ten times
as long as the request. Nothing of it is imported before the first call: it costs most of a second.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import from_json, to_json

from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact, remember
from quarterdeck.keel.settings import KubectlSettings

Object = dict[str, Any]
LARGEST = 256 << 20
PAGE = 500
TRIES = 3
AT_ONCE = 12
"""Requests in flight at one API server, however many tools are called."""
LONGEST_WAIT = 5.0
AGAIN = frozenset({429, 502, 503, 504})
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_RAW = {"retries": False, "preload_content": False, "redirect": False}
IN_CLUSTER = "in-cluster"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ApiRefusal(Refusal):
    """The API server said no: its code, reason and own words."""

    def __init__(
        self, sentence: str, code: int, message: str = "", causes: tuple[Object, ...] = (), wait: float = 0.0
    ) -> None:
        super().__init__(sentence)
        self.code, self.message, self.causes, self.wait = code, message, causes, wait


class Cluster:
    """One context of the kubeconfig. Synchronous; callers run it in threads."""

    def __init__(self, name: str, namespace: str, api: Any, settings: KubectlSettings) -> None:
        self.name, self.namespace, self._api, self._settings = name, namespace, api, settings
        self.host = str(api.configuration.host)
        if not api.configuration.verify_ssl:
            import urllib3  # its owner chose so in the kubeconfig: one line a request on stderr helps nobody

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.discovered: Any = None
        """What resources.py found out about this cluster."""
        self._token = ""
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = "application/json") -> Object:
        """Read an object or list. Tried again when that may help."""
        return self._parsed(self._again(path, query, accept, LARGEST))

    def items(self, path: str, query: Mapping[str, Any] | None = None, most: int = 5000) -> tuple[list[Object], bool]:
        """A list's objects, page by page up to so many, and whether those are all."""
        found: list[Object] = []
        pages = dict(query or {})
        while True:
            page = self.get(path, {**pages, "limit": PAGE})
            found += page.get("items") or []
            pages["continue"] = (page.get("metadata") or {}).get("continue")
            if not pages["continue"] or len(found) >= most:
                return found, not pages["continue"]

    def text(self, path: str, query: Mapping[str, Any] | None = None, most: int = LARGEST) -> str:
        """Read plain text, such as a log, of at most so many bytes."""
        return self._again(path, query, "*/*", most).decode(errors="replace")

    def send(
        self, method: str, path: str, body: Any, kind: str = "application/json", query: Mapping[str, Any] | None = None
    ) -> Object:
        """Write. Never tried again: nobody knows whether the first try arrived."""
        data = body.encode() if isinstance(body, str) else to_json(body)
        return self._parsed(self._once(method, path, query, "application/json", LARGEST, data, kind))

    # The wire

    def _parsed(self, raw: bytes) -> Object:
        try:
            found = from_json(raw)
            if not isinstance(found, dict):
                raise ValueError("no object")
            return found
        except ValueError:
            start = clip(redact(plain(raw[:120].decode(errors="replace"))).replace("\n", " "), 80)
            raise Refusal(
                f"The API server of context {self.name} answered with half a response or no JSON ({start!r}). "
                "Try again; if it stays so, something between here and the API server is broken."
            ) from None

    def _again(self, path: str, query: Mapping[str, Any] | None, accept: str, most: int) -> bytes:
        started = time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                return self._once("GET", path, query, accept, most)
            except (ApiRefusal, _BrokenOff) as error:
                wait = error.wait if isinstance(error, ApiRefusal) else 0.0
                hopeless = isinstance(error, ApiRefusal) and error.code not in AGAIN
                late = time.monotonic() - started > self._settings.timeout_s
                if hopeless or late or attempt == TRIES or wait > LONGEST_WAIT:
                    raise
                time.sleep(wait or 0.1 * 2**attempt * (1 + random.random()))
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        accept: str,
        most: int,
        body: bytes | None = None,
        kind: str = "",
    ) -> bytes:
        import urllib3

        url = self.host.rstrip("/") + path
        if query:
            url += "?" + urlencode({key: value for key, value in query.items() if value is not None})
        headers = {"Accept": accept, "User-Agent": "quarterdeck", **({"Content-Type": kind} if kind else {})}
        total = self._settings.timeout_s
        timeout = urllib3.Timeout(connect=min(5.0, total), read=total)
        try:
            # Asked anew for each request: tokens of cloud logins are renewed in here.
            auth = self._api.configuration.auth_settings().get("BearerToken")
            if auth and auth["value"]:
                if auth["value"] != self._token:
                    self._token = auth["value"]
                    remember([self._token.removeprefix("Bearer ").strip()])
                headers["Authorization"] = auth["value"]
            with self._slots:
                response = self._api.rest_client.pool_manager.request(
                    method, url, body=body, headers=headers, timeout=timeout, **_RAW
                )
                try:
                    return self._read(response, path, most)
                except BaseException:
                    response.close()  # what is left of the answer must not be taken for the next one
                    raise
                finally:
                    response.release_conn()
        except urllib3.exceptions.NewConnectionError as error:  # urllib3 counts it among the time-outs
            raise self._unreachable(error) from None
        except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError) as error:
            connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError)
            within = min(5.0, total) if connecting else total
            raise Refusal(
                f"The API server of context {self.name} ({self.host}) did not answer within {within:g} s. Try again, "
                "or raise QUARTERDECK_KUBECTL_TIMEOUT_S if it is known to be slow."
            ) from None
        except urllib3.exceptions.SSLError as error:
            raise Refusal(
                f"The certificate of the API server of context {self.name} is not trusted ({_short(error)}). Check "
                "certificate-authority in the kubeconfig."
            ) from None
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.IncompleteRead) as error:
            raise _BrokenOff(
                f"The API server of context {self.name} broke off inside its answer ({_short(error)}). Try again."
            ) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> Refusal:
        return Refusal(
            f"The API server of context {self.name} ({self.host}) cannot be reached: {_short(error)}. "
            "Is the cluster running, and is this the right context?"
        )

    def _read(self, response: Any, path: str, most: int) -> bytes:
        deadline = time.monotonic() + self._settings.timeout_s * 2
        parts, size = [], 0
        # `read1` gives what has come; `stream` waits for its whole chunk, for ever when bytes trickle in one by one.
        while part := response.read1(1 << 17, decode_content=True):
            parts.append(part)
            size += len(part)
            if size >= most:
                response.close()
                break
            if time.monotonic() > deadline:
                raise Refusal(f"The answer of context {self.name} comes too slowly and was given up. Ask for less.")
        data = b"".join(parts)[:most]
        if response.status >= 300:
            raise self._refusal(response, path, data)
        return data

    def _refusal(self, response: Any, path: str, data: bytes) -> ApiRefusal:
        try:
            status = from_json(data)
        except ValueError:
            status = {}
        status = status if isinstance(status, dict) else {}
        message = clip(redact(plain(str(status.get("message") or ""))), 400)
        code = response.status
        after = str(response.headers.get("Retry-After", ""))
        wait = float(after) if after.isdigit() else 0.0
        where = f"context {self.name}"
        match code:
            case 401:
                said = f"The credentials of {where} were refused (401): missing or expired. Log in again, then retry."
            case 403:
                said = f"Not allowed in {where}: {message or path}. Ask whoever runs the cluster for that right."
            case 404:
                said = f"Not found in {where}: {message or path}."
            case 409:
                said = f"Conflict in {where}: {message}"
            case 410:
                said = f"That list has expired on the server of {where}; start again without `page`."
            case 422 | 400:
                said = f"The API server of {where} refused it: {message or response.status}"
            case 429:
                asks = f"asks to wait {wait:g} s" if wait else "asks to wait"
                said = f"The API server of {where} is busy (429) and {asks}. Try again then."
            case _:
                said = f"The API server of {where} failed with {code}: {message or 'no reason given'}. Try again."
        causes = status["details"].get("causes") if isinstance(status.get("details"), dict) else None
        known = tuple(c for c in causes if isinstance(c, dict)) if isinstance(causes, list) else ()
        return ApiRefusal(said, code, message, known, wait)


class _BrokenOff(Refusal):
    """The connection ended inside the answer."""


def _short(error: Exception) -> str:
    text = redact(one_line(str(getattr(error, "reason", None) or error)))
    return clip(re.sub(r"^\w+\(.*?\): ", "", text), 160).rstrip(".")


def path_of(
    group_version: str, plural: str, namespace: str | None = None, name: str | None = None, subresource: str = ""
) -> str:
    """`path_of("apps/v1", "deployments", "shop", "web")`, every part escaped."""
    parts = [f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"]
    if namespace:
        parts += ["namespaces", _segment(namespace)]
    parts.append(_segment(plural))
    if name:
        parts.append(_segment(name))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _segment(name: str) -> str:
    """One part of a path. Dots alone would be resolved on the way: `pods/..` is the namespace itself."""
    if name in (".", ".."):
        raise Refusal(f"{name!r} is no name of anything. Give the object's own name.")
    return quote(name, safe="")


class Clusters:
    """The contexts that settings allow, opened when they are first used."""

    def __init__(self, settings: KubectlSettings) -> None:
        self._settings = settings
        self._open: dict[str, Cluster] = {}
        self._read_from: list[tuple[int, int]] = []

    def use(self, context: str | None) -> Cluster:
        """The cluster of this context; None is the current one. A changed kubeconfig is read anew: people log in."""
        from kubernetes import client, config

        wanted = context or ""
        files = self._files()
        if files != self._read_from:
            self._open, self._read_from = {}, files
        if wanted in self._open:
            return self._open[wanted]
        path = self._settings.kubeconfig or None
        names, current = self._contexts(config, path)
        if not names:
            cluster = self._inside(client, config, wanted)
        else:
            cluster = self._from_file(client, config, path, self._allowed(wanted, names, current), names)
        self._open[wanted] = cluster
        return cluster

    def namespace(self, cluster: Cluster, namespace: str | None) -> str:
        """The namespace to use: the caller's, if settings allow it, else the default one."""
        chosen = namespace or cluster.namespace
        allowed = self._settings.namespaces
        if allowed and chosen not in allowed:
            raise Refusal(
                f"Namespace {clip(plain(chosen), 63)!r} may not be used here. Allowed: {', '.join(allowed[:20])}."
            )
        return chosen

    def _files(self) -> list[tuple[int, int]]:
        named = self._settings.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        found = []
        for name in named.split(os.pathsep):
            try:
                stat = Path(name).expanduser().stat()
                found.append((stat.st_mtime_ns, stat.st_size))
            except (OSError, RuntimeError):
                found.append((0, 0))
        return found

    def _contexts(self, config: Any, path: str | None) -> tuple[dict[str, str], str]:
        try:
            found, active = config.list_kube_config_contexts(path)
        except config.ConfigException as error:
            if path or not _OWN_NAMESPACE.exists():
                raise Refusal(
                    f"No usable kubeconfig: {_short(error)}. Set KUBECONFIG or QUARTERDECK_KUBECTL_KUBECONFIG to one "
                    "that works with kubectl; `quarterdeck world` brings a practice cluster."
                ) from None
            return {}, ""
        except Exception as error:  # yaml errors, permission errors
            raise Refusal(f"The kubeconfig cannot be read: {_short(error)}. Mend the file or name another.") from None
        names = {item["name"]: (item.get("context") or {}).get("namespace") or "" for item in found or []}
        return names, (active or {}).get("name", "")

    def _allowed(self, wanted: str, names: dict[str, str], current: str) -> str:
        usable = [name for name in self._settings.contexts if name in names] or [current]
        chosen = wanted or (current if current in usable else usable[0])
        if chosen in usable:
            return chosen
        known = wanted in names
        why = "may not be used here" if known else "is not in the kubeconfig"
        how = " Add it to QUARTERDECK_KUBECTL_CONTEXTS to allow it." if known else ""
        raise Refusal(f"Context {clip(plain(wanted), 80)!r} {why}. Usable: {', '.join(usable)}.{how}")

    def _from_file(self, client: Any, config: Any, path: str | None, name: str, names: dict[str, str]) -> Cluster:
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = AT_ONCE
        try:
            config.load_kube_config(config_file=path, context=name, client_configuration=configuration)
        except Exception as error:  # whatever a broken file or login plug-in raises
            raise Refusal(
                f"Context {name} cannot be used: {_short(error)}. Does `kubectl --context {name} get pods` work?"
            ) from None
        if not configuration.verify_ssl:
            import urllib3

            # The person wrote insecure-skip-tls-verify; a warning at each request would tell nobody anything.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        namespace = self._settings.namespace or names.get(name) or "default"
        return Cluster(name, namespace, client.ApiClient(configuration), self._settings)

    def _inside(self, client: Any, config: Any, wanted: str) -> Cluster:
        if wanted:
            raise Refusal("Inside a cluster there is only the cluster itself: leave `context` out.")
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = AT_ONCE
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise Refusal(f"The pod's own credentials cannot be used: {_short(error)}.") from None
        own = _OWN_NAMESPACE.read_text().strip()
        return Cluster(
            IN_CLUSTER, self._settings.namespace or own or "default", client.ApiClient(configuration), self._settings
        )
