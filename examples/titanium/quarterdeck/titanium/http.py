"""The Kubernetes API over HTTP: routing, negotiation, and what each verb does."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from quarterdeck.titanium import (
    access,
    apply,
    defaults,
    discovery,
    metrics,
    openapi,
    patches,
    podlogs,
    protobuf,
    tables,
)
from quarterdeck.titanium.access import User, Wish
from quarterdeck.titanium.kinds import Kind, Kinds
from quarterdeck.titanium.kubelet import Kubelet
from quarterdeck.titanium.selectors import fields_match, labels_match, object_matches
from quarterdeck.titanium.status import ApiError, bad_request, forbidden, gone, no_such_path, not_found, too_many
from quarterdeck.titanium.store import Object, Store, timestamp
from quarterdeck.titanium.validation import check, check_types
from quarterdeck.titanium.weather import Weather
from quarterdeck.titanium.workloads import Workloads

LARGEST = 3 << 20
WATCH_S = 300.0


@dataclass(frozen=True)
class Call:
    """One request, resolved to what it is about."""

    request: Request
    user: User
    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def query(self) -> Any:
        return self.request.query_params

    @property
    def dry(self) -> bool:
        return bool(self.query.get("dryRun") == "All")

    @property
    def manager(self) -> str:
        agent = self.request.headers.get("user-agent", "unknown").partition("/")[0]
        return str(self.query.get("fieldManager") or agent)[:128]


class Api:
    """An ASGI app over one store."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        tokens: dict[str, User],
        kubelet: Kubelet,
        workloads: Workloads,
        weather: Weather,
    ) -> None:
        self.store, self.kinds, self.tokens = store, kinds, tokens
        self.kubelet, self.workloads, self.weather = kubelet, workloads, weather
        self.at_once = self.most_at_once = 0
        """Requests in flight now, and the most there ever were."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            try:
                response = await self._blow(request) or await self._answer(request)
            except ApiError as error:
                response = JSONResponse(error.body(), error.code, error.headers)
            except ClientDisconnect:
                return
            await response(scope, receive, send)
        finally:
            self.at_once -= 1

    async def _blow(self, request: Request) -> Response | None:
        gust = self.weather.strike(request.method, request.url.path)
        if gust is None:
            return None
        match gust.kind:
            case "429":
                raise too_many(max(1, int(gust.seconds)))
            case "500":
                raise ApiError(500, "InternalError", "Internal error occurred: etcdserver: request timed out")
            case "503":
                raise ApiError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            case "cut":
                return Response(
                    b'{"kind":"PodList","items":[{"met',
                    headers={"content-length": "100000"},
                    media_type="application/json",
                )
            case "garbage":
                return Response(b"<html>proxy error</html>", media_type="application/json")
            case "slow":
                await asyncio.sleep(gust.seconds)
        return None

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        user = access.authenticate(request.headers.get("authorization", ""), self.tokens)
        resource = self._resolve(request, user, path.strip("/").split("/"))
        if resource is None:
            if not access.allowed(self.store, self.kinds, user, Wish("get", "", "", path=path)):
                message = f'forbidden: User "{user.name}" cannot get path "{path}"'
                raise ApiError(403, "Forbidden", message)
            return self._about(path, request)
        verb = self._verb(resource)
        plural = resource.kind.plural + (f"/{resource.subresource}" if resource.subresource else "")
        wish = Wish(verb, resource.kind.group, plural, resource.namespace, resource.name)
        if not access.allowed(self.store, self.kinds, user, wish):
            raise forbidden(user.name, verb, plural, resource.kind.group, resource.namespace, resource.name)
        return await self._do(verb, resource)

    def _resolve(self, request: Request, user: User, parts: list[str]) -> Call | None:
        if parts[:1] == ["api"] and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.kinds.find(group, version, rest[0])
        if kind is None or len(rest) > 3:
            raise no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        return Call(request, user, kind, namespace, name, rest[2] if len(rest) > 2 else "")

    def _verb(self, call: Call) -> str:
        match call.request.method:
            case "GET" | "HEAD":
                if call.name:
                    return "get"
                return "watch" if call.query.get("watch") in ("true", "1") else "list"
            case "POST":
                return "create"
            case "PUT":
                return "update"
            case "PATCH":
                return "patch"
            case "DELETE":
                return "delete" if call.name else "deletecollection"
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _about(self, path: str, request: Request) -> Response:
        if path in ("/healthz", "/livez", "/readyz"):
            return PlainTextResponse("ok")
        if path.rstrip("/") == "/openapi/v3":
            return JSONResponse(openapi.index(self.kinds))
        if path.startswith("/openapi/v3/"):
            parts = path.removeprefix("/openapi/v3/").split("/")
            group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
            return JSONResponse(openapi.document(self.kinds, group, version))
        if path == "/openapi/v2":
            return JSONResponse(openapi.v2(self.kinds))
        found = discovery.document(self.kinds, path, str(request.base_url))
        if found is None:
            raise no_such_path()
        return JSONResponse(found)

    async def _do(self, verb: str, call: Call) -> Response:
        kind = call.kind
        if kind.group in ("authorization.k8s.io", "authentication.k8s.io"):
            return self._review(call, await self._body(call.request))
        if kind.group == "metrics.k8s.io":
            return self._metrics(call)
        if verb not in kind.verbs and verb not in ("get", "patch", "update", "create"):
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if call.subresource and call.subresource not in kind.subresources:
            raise no_such_path()
        match verb:
            case "list":
                return self._list(call)
            case "watch":
                return StreamingResponse(self._watch(call), media_type="application/json")
            case "get":
                return await self._get(call)
            case "create":
                return await self._create(call)
            case "update" | "patch":
                return await self._write(verb, call)
            case "delete":
                return await self._delete(call)
        return await self._delete_all(call)

    # Reading

    def _wanted(self, call: Call) -> list[Object]:
        objects = self.store.all(call.kind, call.namespace)
        if selector := call.query.get("labelSelector"):
            test = labels_match(selector)
            objects = [o for o in objects if test(o["metadata"].get("labels") or {})]
        if selector := call.query.get("fieldSelector"):
            test_fields = fields_match(selector, call.kind.plural)
            objects = [o for o in objects if test_fields(o)]
        return objects

    def _list(self, call: Call) -> Response:
        objects = self._wanted(call)
        metadata: Object = {"resourceVersion": self.store.version}
        start = 0
        if token := call.query.get("continue"):
            version, _, place = token.partition(":")
            if not (version.isdigit() and place.isdigit()):
                raise bad_request("continue key is not valid: " + token[:60])
            if int(version) < int(self.store.version) - 5_000:
                raise gone("The provided continue parameter is too old to display a consistent list result.")
            start = int(place)
        limit = int(call.query.get("limit") or 0)
        if limit and start + limit < len(objects):
            metadata["continue"] = f"{self.store.version}:{start + limit}"
            if not (call.query.get("labelSelector") or call.query.get("fieldSelector")):
                metadata["remainingItemCount"] = len(objects) - start - limit
        objects = objects[start : start + limit] if limit else objects[start:]
        form, version = _form(call.request)
        if form == "Table":
            include = call.query.get("includeObject") or "Metadata"
            return JSONResponse(tables.table(call.kind, objects, include, version, metadata))
        if form == "PartialObjectMetadataList":
            items = [tables.partial(o, version) for o in objects]
            listed = {"kind": form, "apiVersion": f"meta.k8s.io/{version}", "metadata": metadata, "items": items}
            return JSONResponse(listed)
        head = {"kind": f"{call.kind.kind}List", "apiVersion": call.kind.api_version, "metadata": metadata}
        start_of = json.dumps(head, separators=(",", ":"))[:-1].encode()
        body = start_of + b',"items":[' + b",".join(self.store.encoded(o) for o in objects) + b"]}"
        return Response(body, media_type="application/json")

    async def _watch(self, call: Call) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(float(call.query.get("timeoutSeconds") or WATCH_S), WATCH_S)
        form, version = _form(call.request)
        label = labels_match(call.query["labelSelector"]) if call.query.get("labelSelector") else None
        field = fields_match(call.query["fieldSelector"], call.kind.plural) if call.query.get("fieldSelector") else None

        def fits(object: Object | None) -> bool:
            return (
                object is not None
                and (not call.namespace or object["metadata"].get("namespace") == call.namespace)
                and (label is None or label(object["metadata"].get("labels") or {}))
                and (field is None or field(object))
            )

        def line(type: str, object: Object) -> bytes:
            if form == "Table":
                include = call.query.get("includeObject") or "Metadata"
                metadata = {"resourceVersion": object["metadata"]["resourceVersion"]}
                object = tables.table(call.kind, [object], include, version, metadata)
            elif form.startswith("Partial"):
                object = tables.partial(object, version)
            return json.dumps({"type": type, "object": object}).encode() + b"\n"

        from_version = call.query.get("resourceVersion") or ""
        initial = call.query.get("sendInitialEvents") == "true"
        if from_version in ("", "0") or initial:
            seen = int(self.store.version)
            for object in self._wanted(call):
                yield line("ADDED", object)
            if initial:
                yield _bookmark(call.kind, seen, {"k8s.io/initial-events-end": "true"})
        elif not from_version.isdigit():
            raise bad_request(f'resourceVersion: Invalid value: "{from_version}"')
        else:
            seen = int(from_version)
        bookmark = loop.time() + 10
        while (left := ends - loop.time()) > 0:
            try:
                happened = self.store.since(seen)
            except ApiError as error:
                yield json.dumps({"type": "ERROR", "object": error.body()}).encode() + b"\n"
                return
            for one in happened:
                seen = one.version
                if one.kind != call.kind:
                    continue
                now, before = fits(one.object), fits(one.before)
                if one.type == "DELETED" and (now or before):
                    yield line("DELETED", one.object)
                elif one.type != "DELETED" and now:
                    yield line("ADDED" if one.before is None or not before else "MODIFIED", one.object)
                elif before:
                    yield line("DELETED", one.object)
            if call.query.get("allowWatchBookmarks") == "true" and loop.time() > bookmark:
                bookmark = loop.time() + 10
                yield _bookmark(call.kind, seen)
            if self.store.since(seen):
                continue
            await self.store.wait(min(left, 1.0))

    async def _get(self, call: Call) -> Response:
        object = self.store.get(call.kind, call.namespace, call.name)
        if call.subresource == "log":
            return podlogs.answer(object, self.kubelet, call.query)
        if call.subresource == "scale":
            return JSONResponse(_scale_of(object))
        form, version = _form(call.request)
        if form == "Table":
            include = call.query.get("includeObject") or "Metadata"
            metadata = {"resourceVersion": object["metadata"]["resourceVersion"]}
            return JSONResponse(tables.table(call.kind, [object], include, version, metadata))
        if form == "PartialObjectMetadata":
            return JSONResponse(tables.partial(object, version))
        return Response(self.store.encoded(object), media_type="application/json")

    def _metrics(self, call: Call) -> Response:
        if call.kind.kind == "NodeMetrics":
            items = metrics.nodes(self.store, self.kinds, self.kubelet)
        else:
            items = metrics.pods(self.kubelet, call.namespace)
        if call.name:
            found = next((item for item in items if item["metadata"]["name"] == call.name), None)
            if found is None:
                raise not_found(call.kind.plural, call.kind.group, call.name)
            return JSONResponse(found)
        if selector := call.query.get("labelSelector"):
            test = labels_match(selector)
            items = [item for item in items if test(item["metadata"].get("labels") or {})]
        listed = {"kind": f"{call.kind.kind}List", "apiVersion": call.kind.api_version, "metadata": {}, "items": items}
        return JSONResponse(listed)

    def _review(self, call: Call, body: Any) -> Response:
        review = check_types(body)
        review.update(apiVersion=call.kind.api_version, kind=call.kind.kind)
        if call.kind.kind == "SelfSubjectReview":
            review["status"] = {"userInfo": access.say_user(call.user)}
            return JSONResponse(review, 201)
        spec = review.get("spec") or {}
        if call.kind.kind == "SelfSubjectRulesReview":
            rules = access.rules_of(self.store, self.kinds, call.user, spec.get("namespace", ""))
            if access.MASTERS in call.user.groups:
                rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
            status = {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
            return JSONResponse({**review, "status": status}, 201)
        user = call.user
        if call.kind.kind == "SubjectAccessReview":
            user = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
        wanted = spec.get("resourceAttributes") or {}
        resource = wanted.get("resource", "") + (f"/{wanted['subresource']}" if wanted.get("subresource") else "")
        path = (spec.get("nonResourceAttributes") or {}).get("path", "")
        wish = Wish(
            wanted.get("verb", "get"),
            wanted.get("group", ""),
            resource,
            wanted.get("namespace", ""),
            wanted.get("name", ""),
            path,
        )
        yes = access.allowed(self.store, self.kinds, user, wish)
        return JSONResponse(
            {**review, "status": {"allowed": yes, **({} if yes else {"reason": "no rule allows it"})}}, 201
        )

    # Writing

    async def _body(self, request: Request) -> Any:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                raise ApiError(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        if not body:
            return None
        if "protobuf" in kind:
            return protobuf.decode(bytes(body))
        try:
            return yaml.safe_load(bytes(body)) if "yaml" in kind else json.loads(body)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise bad_request(f"the object provided is unrecognized: {str(error)[:200]}") from None

    async def _create(self, call: Call) -> Response:
        body = await self._body(call.request)
        if call.subresource == "eviction":
            return self._evict(call)
        if call.name:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        object = check_types(body)
        return JSONResponse(self._make(call, object), 201)

    def _make(self, call: Call, object: Object, managed: list[Object] | None = None) -> Object:
        kind, metadata = call.kind, object["metadata"]
        object.update(apiVersion=kind.api_version, kind=kind.kind)
        if kind.namespaced:
            if metadata.get("namespace") not in (None, "", call.namespace):
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = call.namespace
            self._live_namespace(call)
        for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
            metadata.pop(field, None)
        if kind.kind not in ("Event", "Endpoints", "Node", "PersistentVolumeClaim"):
            object.pop("status", None)
        defaults.fill(kind.kind, object)
        check(kind, object)
        if kind.kind == "Pod":
            self.workloads.admit(object)
        metadata["managedFields"] = managed or apply.updated(None, object, call.manager, "", timestamp())
        if call.dry:
            if self.store.find(kind, call.namespace, metadata["name"]) is not None:
                self.store.create(kind, copy.deepcopy(object))  # raises AlreadyExists
            return {**object, "metadata": {**metadata, "uid": "dry-run", "creationTimestamp": timestamp()}}
        return self.store.create(kind, object)

    def _live_namespace(self, call: Call) -> None:
        namespaces = self.kinds.named("Namespace")
        assert namespaces is not None
        found = self.store.find(namespaces, "", call.namespace)
        if found is None:
            raise not_found("namespaces", "", call.namespace)
        if found["metadata"].get("deletionTimestamp"):
            message = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            raise ApiError(403, "Forbidden", message)

    async def _write(self, verb: str, call: Call) -> Response:
        body = await self._body(call.request)
        media = call.request.headers.get("content-type", "").partition(";")[0].strip()
        current = self.store.find(call.kind, call.namespace, call.name)
        if verb == "patch" and media in ("application/apply-patch+yaml", "application/apply-patch"):
            return self._apply(call, check_types(body), current)
        if current is None:
            raise not_found(call.kind.plural, call.kind.group, call.name)
        if call.subresource == "scale":
            return self._rescale(call, current, verb, media, body)
        wanted = check_types(body if verb == "update" else _patched(current, media, body, call.kind))
        return JSONResponse(self._replace(call, current, wanted))

    def _replace(self, call: Call, current: Object, wanted: Object, managed: list[Object] | None = None) -> Object:
        kind = call.kind
        metadata = wanted["metadata"]
        if metadata.get("name") not in (None, "", call.name):
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            )
        metadata.update(name=call.name)
        if kind.namespaced:
            metadata["namespace"] = call.namespace
        if metadata.get("uid") not in (None, "", current["metadata"]["uid"]):
            uid = current["metadata"]["uid"]
            message = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {uid}"
            raise ApiError(409, "Conflict", message)
        wanted.update(apiVersion=kind.api_version, kind=kind.kind)
        if call.subresource == "status":
            version = metadata.get("resourceVersion")
            fresh = copy.deepcopy(current)
            fresh["status"] = wanted.get("status") or {}
            if version:
                fresh["metadata"]["resourceVersion"] = version
            wanted, metadata = fresh, fresh["metadata"]
        elif "status" in kind.subresources and "status" in current:
            wanted["status"] = copy.deepcopy(current["status"])
        for field in ("generation", "deletionTimestamp", "deletionGracePeriodSeconds", "creationTimestamp"):
            metadata.pop(field, None)
            if field in current["metadata"]:
                metadata[field] = current["metadata"][field]
        defaults.fill(kind.kind, wanted)
        check(kind, wanted, current)
        metadata["managedFields"] = managed or apply.updated(
            current, wanted, call.manager, call.subresource, timestamp()
        )
        if call.dry:
            version = metadata.get("resourceVersion")
            if version and version != current["metadata"]["resourceVersion"]:
                self.store.replace(kind, copy.deepcopy(wanted))  # raises Conflict
            bump = kind.kind != "Event" and current.get("spec") != wanted.get("spec") and "generation" in metadata
            metadata.update(resourceVersion=current["metadata"]["resourceVersion"], uid=current["metadata"]["uid"])
            if bump:
                metadata["generation"] += 1
            return wanted
        return self.store.replace(kind, wanted)

    def _apply(self, call: Call, wanted: Object, current: Object | None) -> Response:
        if not call.query.get("fieldManager"):
            raise bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        if wanted["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        wanted["metadata"].setdefault("name", call.name)
        if call.kind.namespaced:
            wanted["metadata"]["namespace"] = call.namespace
        force = call.query.get("force") == "true"
        merged, managed = apply.apply(current, wanted, call.manager, force, timestamp())
        if current is None:
            return JSONResponse(self._make(call, merged, managed), 201)
        return JSONResponse(self._replace(call, current, merged, managed))

    def _rescale(self, call: Call, current: Object, verb: str, media: str, body: Any) -> Response:
        scale = _scale_of(current)
        wanted = check_types(body if verb == "update" else _patched(scale, media, body, call.kind))
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        fresh = copy.deepcopy(current)
        fresh["spec"]["replicas"] = replicas
        version = wanted["metadata"].get("resourceVersion")
        if version:
            fresh["metadata"]["resourceVersion"] = version
        return JSONResponse(_scale_of(self._replace(replace(call, subresource=""), current, fresh)))

    async def _delete(self, call: Call) -> Response:
        options = await self._body(call.request) or {}
        object = self.store.get(call.kind, call.namespace, call.name)
        conditions = options.get("preconditions") or {}
        for field, key in (("uid", "uid"), ("resourceVersion", "resourceVersion")):
            if conditions.get(field) and conditions[field] != object["metadata"][key]:
                have = object["metadata"][key]
                message = f"Precondition failed: {field} in precondition: {conditions[field]}, in object meta: {have}"
                raise ApiError(409, "Conflict", message, {"name": call.name, "kind": call.kind.plural})
        dry = call.dry or "All" in (options.get("dryRun") or [])
        gone_now = object if dry else self._end(call.kind, object, _grace(call, options, object), options, call)
        if gone_now["metadata"].get("deletionTimestamp") and not dry:
            return JSONResponse(gone_now)
        if dry or call.kind.kind in ("Pod", "Namespace"):
            return JSONResponse(gone_now)
        details = {"name": call.name, "kind": call.kind.plural, "uid": object["metadata"]["uid"]}
        if call.kind.group:
            details["group"] = call.kind.group
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return JSONResponse(status)

    def _end(self, kind: Kind, object: Object, grace: int, options: Object, call: Call) -> Object:
        policy = options.get("propagationPolicy") or call.query.get("propagationPolicy")
        if policy == "Orphan":
            self._orphan(object)
        metadata = object["metadata"]
        waits = (
            kind.kind == "Namespace"
            or metadata.get("finalizers")
            or (kind.kind == "Pod" and object["spec"].get("nodeName") and grace > 0)
        )
        if not waits:
            return self.store.remove(kind, object)
        if metadata.get("deletionTimestamp"):
            return object

        def alter(o: Object) -> None:
            o["metadata"].update(deletionTimestamp=timestamp())
            if kind.kind == "Pod":
                o["metadata"].update(deletionGracePeriodSeconds=grace)
            if kind.kind == "Namespace":
                o["status"] = {"phase": "Terminating"}

        return self.store.change(kind, object, alter) or object

    def _orphan(self, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        for kind in self.kinds:
            for object in self.store.each(kind):
                references = object["metadata"].get("ownerReferences") or []
                kept = [reference for reference in references if reference["uid"] != uid]
                if len(kept) != len(references):
                    self.store.change(kind, object, partial(_set_owners, kept))

    async def _delete_all(self, call: Call) -> Response:
        options = await self._body(call.request) or {}
        objects = self._wanted(call)
        if not call.dry:
            for object in objects:
                self._end(call.kind, object, _grace(call, options, object), options, call)
        items = {"kind": f"{call.kind.kind}List", "apiVersion": call.kind.api_version, "metadata": {}, "items": objects}
        return JSONResponse(items)

    def _evict(self, call: Call) -> Response:
        pod = self.store.get(call.kind, call.namespace, call.name)
        budgets = self.kinds.named("PodDisruptionBudget")
        assert budgets is not None
        labels = pod["metadata"].get("labels") or {}
        for budget in self.store.all(budgets, call.namespace):
            if object_matches(budget["spec"].get("selector"), labels) and not self._spare(budget, call):
                message = "Cannot evict pod as it would violate the pod's disruption budget."
                raise ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": 1})
        if not call.dry:
            self.workloads.kill(pod)
        return JSONResponse(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
        )

    def _spare(self, budget: Object, call: Call) -> bool:
        from quarterdeck.titanium.rollouts import share
        from quarterdeck.titanium.workloads import is_active, is_ready

        pods = [
            pod
            for pod in self.store.all(call.kind, call.namespace)
            if is_active(pod) and object_matches(budget["spec"].get("selector"), pod["metadata"].get("labels") or {})
        ]
        healthy = sum(1 for pod in pods if is_ready(pod))
        if (least := budget["spec"].get("minAvailable")) is not None:
            return healthy - 1 >= share(least, len(pods), up=True)
        return len(pods) - healthy + 1 <= share(budget["spec"].get("maxUnavailable", 1), len(pods), up=True)


def _set_owners(references: list[Object], object: Object) -> None:
    object["metadata"]["ownerReferences"] = references


def _bookmark(kind: Kind, version: int, annotations: dict[str, str] | None = None) -> bytes:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    mark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if annotations:
        mark["metadata"] = {**metadata, "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n"


def _form(request: Request) -> tuple[str, str]:
    """What the client wants first of what we have: an object, a Table, or metadata only."""
    for part in request.headers.get("accept", "").split(","):
        pieces = [piece.strip() for piece in part.split(";")]
        options = dict(piece.split("=", 1) for piece in pieces[1:] if "=" in piece)
        if pieces[0] in ("application/json", "*/*", "application/*", ""):
            return options.get("as", ""), options.get("v", "v1")
    if "protobuf" in request.headers.get("accept", "") and "json" not in request.headers.get("accept", ""):
        message = "only the following media types are accepted: application/json"
        raise ApiError(406, "NotAcceptable", message)
    return "", "v1"


def _patched(current: Object, media: str, body: Any, kind: Kind) -> Any:
    match media:
        case "application/json-patch+json":
            return patches.json_patch(current, body)
        case "application/merge-patch+json":
            return patches.merge_patch(copy.deepcopy(current), body)
        case "application/strategic-merge-patch+json":
            if kind.columns or ("." in kind.group and not kind.group.endswith("k8s.io")):
                message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"  # noqa: E501
                raise ApiError(415, "UnsupportedMediaType", message)
            return patches.strategic_merge(copy.deepcopy(current), body)
    raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {media}")


def _scale_of(object: Object) -> Object:
    metadata = {
        k: object["metadata"].get(k) for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = (object["spec"].get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object["spec"].get("replicas", 0)},
        "status": {
            "replicas": object.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def _grace(call: Call, options: Object, object: Object) -> int:
    asked = options.get("gracePeriodSeconds", call.query.get("gracePeriodSeconds"))
    if asked is not None:
        return int(asked)
    return int((object.get("spec") or {}).get("terminationGracePeriodSeconds", 0))
