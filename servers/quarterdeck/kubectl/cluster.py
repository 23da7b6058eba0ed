"""One cluster through the official client: plain JSON in and out, bounded waits, errors as sentences.

The client brings every way to log in; its model classes are left alone, because making 5,000 of them takes ten times
as long as the request. Nothing of it is imported before the first call: it costs most of a second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import from_json, to_json

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact, remember
from quarterdeck.keel.settings import KubectlSettings

Object = dict[str, Any]
LARGEST = 256 << 20
TRIES = 3
LONGEST_WAIT = 5.0
AGAIN = frozenset({429, 502, 503, 504})
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_RAW = {"retries": False, "preload_content": False, "redirect": False}
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ApiRefusal(Refusal):
    """The API server said no: its code, reason and own words."""

    def __init__(self, sentence: str, code: int, reason: str = "", message: str = "") -> None:
        super().__init__(sentence)
        self.code, self.reason, self.message = code, reason, message


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

    def get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = "application/json") -> Any:
        """Read an object or list. Tried again when that may help."""
        return self._json("GET", path, query, accept=accept)

    def text(self, path: str, query: Mapping[str, Any] | None = None, most: int = LARGEST) -> str:
        """Read plain text, such as a log, of at most so many bytes."""
        return self._again(path, query, "*/*", most).decode(errors="replace")

    def send(
        self, method: str, path: str, body: Any, kind: str = "application/json", query: Mapping[str, Any] | None = None
    ) -> Object:
        """Write. Never tried again: nobody knows whether the first try arrived."""
        data = body.encode() if isinstance(body, str) else to_json(body)
        raw = self._once(method, path, query, "application/json", LARGEST, data, kind)
        found: Object = self._parsed(raw)
        return found

    # The wire

    def _json(self, method: str, path: str, query: Mapping[str, Any] | None, accept: str) -> Any:
        return self._parsed(self._again(path, query, accept, LARGEST))

    def _parsed(self, raw: bytes) -> Any:
        try:
            return from_json(raw)
        except ValueError:
            start = clip(redact(plain(raw[:120].decode(errors="replace"))).replace("\n", " "), 80)
            raise Refusal(
                f"The API server of context {self.name} answered with half a response or no JSON ({start!r}). "
                "Try again; if it stays so, something between here and the API server is broken."
            ) from None

    def _again(self, path: str, query: Mapping[str, Any] | None, accept: str, most: int) -> bytes:
        for attempt in range(TRIES):
            try:
                return self._once("GET", path, query, accept, most)
            except ApiRefusal as error:
                wait = getattr(error, "wait", 0.0)
                if error.code not in AGAIN or attempt + 1 == TRIES or wait > LONGEST_WAIT:
                    raise
                time.sleep(wait or 0.2 * 2**attempt * (1 + random.random()))
            except _BrokenOff:
                if attempt + 1 == TRIES:
                    raise
                time.sleep(0.2 * 2**attempt * (1 + random.random()))
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
                remember([auth["value"].removeprefix("Bearer ").strip()])
                headers["Authorization"] = auth["value"]
            response = self._api.rest_client.pool_manager.request(
                method, url, body=body, headers=headers, timeout=timeout, **_RAW
            )
            try:
                return self._read(response, path, most)
            finally:
                response.release_conn()
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
            raise Refusal(
                f"The API server of context {self.name} ({self.host}) cannot be reached: {_short(error)}. "
                "Is the cluster running, and is this the right context?"
            ) from None

    def _read(self, response: Any, path: str, most: int) -> bytes:
        deadline = time.monotonic() + self._settings.timeout_s * 4
        parts, size = [], 0
        for part in response.stream(1 << 20, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > most:
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
        code, reason = response.status, str(status.get("reason") or "")
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
                said = f"That list has expired on the server of {where}; start it again without `continue`."
            case 422 | 400:
                said = f"The API server of {where} refused it: {message or response.status}"
            case 429:
                said = f"The API server of {where} is busy (429) and asks to wait. Try again in a moment."
            case _:
                said = f"The API server of {where} failed with {code}: {message or 'no reason given'}. Try again."
        error = ApiRefusal(said, code, reason, message)
        after = response.headers.get("Retry-After", "")
        error.wait = float(after) if str(after).isdigit() else 0.0  # type: ignore[attr-defined]
        return error


class _BrokenOff(Refusal):
    """The connection ended inside the answer."""


def _short(error: Exception) -> str:
    text = redact(plain(str(getattr(error, "reason", None) or error)))
    return clip(text.rpartition(">: ")[2] or text, 160)


def path_of(
    group_version: str, plural: str, namespace: str | None = None, name: str | None = None, subresource: str = ""
) -> str:
    """`path_of("apps/v1", "deployments", "shop", "web")`, every part escaped."""
    root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    parts = [root]
    if namespace:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(quote(plural, safe=""))
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


class Clusters:
    """The contexts that settings allow, opened when they are first used."""

    def __init__(self, settings: KubectlSettings) -> None:
        self._settings = settings
        self._open: dict[str, Cluster] = {}

    def use(self, context: str | None) -> Cluster:
        """The cluster of this context; None is the current one."""
        from kubernetes import client, config

        wanted = context or ""
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

    def names(self) -> list[str]:
        from kubernetes import config

        names, current = self._contexts(config, self._settings.kubeconfig or None)
        return self._settings.contexts or ([current] if current else list(names))

    def namespace(self, cluster: Cluster, namespace: str | None) -> str:
        """The namespace to use: the caller's, if settings allow it, else the default one."""
        chosen = namespace or cluster.namespace
        allowed = self._settings.namespaces
        if allowed and chosen not in allowed:
            raise Refusal(
                f"Namespace {clip(plain(chosen), 63)!r} may not be used here. Allowed: {', '.join(allowed[:20])}."
            )
        return chosen

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
        try:
            config.load_kube_config(config_file=path, context=name, client_configuration=configuration)
        except Exception as error:  # whatever a broken file or login plug-in raises
            raise Refusal(
                f"Context {name} cannot be used: {_short(error)}. Does `kubectl --context {name} get pods` work?"
            ) from None
        namespace = self._settings.namespace or names.get(name) or "default"
        return Cluster(name, namespace, client.ApiClient(configuration), self._settings)

    def _inside(self, client: Any, config: Any, wanted: str) -> Cluster:
        if wanted:
            raise Refusal("Inside a cluster there is only the cluster itself: leave `context` out.")
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise Refusal(f"The pod's own credentials cannot be used: {_short(error)}.") from None
        own = _OWN_NAMESPACE.read_text().strip()
        return Cluster(
            "in-cluster", self._settings.namespace or own or "default", client.ApiClient(configuration), self._settings
        )
