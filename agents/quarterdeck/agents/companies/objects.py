"""Raw notes and sources as objects: in a folder, or in an S3-compatible store, signed by Amazon's Signature Version 4.

What is put under a name again takes the place of what was there, so that putting twice is putting once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import CompaniesSettings

TIMEOUT_S = 20.0
TYPE = "application/json"


class Objects(Protocol):
    async def put(self, name: str, value: dict[str, Any]) -> None: ...
    async def close(self) -> None: ...


def objects(settings: CompaniesSettings, transport: httpx.AsyncBaseTransport | None = None) -> Objects | None:
    """Where raw notes go by the settings; None: beside the results in the database."""
    place = settings.notes
    if place.startswith("s3://"):
        return Bucket(settings, transport)
    return Folder(Path(place).expanduser()) if place else None


class Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, value: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self._put, self._folder / name, _bytes(value))
        except OSError as error:
            why = error.strerror or str(error)
            raise Refusal(f"Try again: notes cannot be stored in {self._folder} ({why}). Free space there.") from None

    def _put(self, path: Path, body: bytes) -> None:
        """Whole or not at all: a crash leaves the old one, and at most a file that nobody reads."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            part.write_bytes(body)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    async def close(self) -> None: ...


class Bucket:
    def __init__(self, settings: CompaniesSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        bucket, _, prefix = settings.notes.removeprefix("s3://").partition("/")
        self._key = settings.s3_key or os.environ.get("AWS_ACCESS_KEY_ID", "")
        self._secret = settings.s3_secret.get_secret_value() or os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not bucket or not self._key or not self._secret:
            raise Refusal("companies.notes names an S3 bucket: set companies.s3_key and companies.s3_secret too.")
        self._region = settings.s3_region
        endpoint = settings.s3_endpoint or f"https://s3.{settings.s3_region}.amazonaws.com"
        self._base = f"{endpoint.rstrip('/')}/{bucket}/" + (f"{prefix.strip('/')}/" if prefix.strip("/") else "")
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport, trust_env=False)

    async def put(self, name: str, value: dict[str, Any]) -> None:
        url, body = self._base + quote(name, safe="/-_.~"), _bytes(value)
        now = datetime.now(UTC)
        headers = sign("PUT", url, {"content-type": TYPE}, body, self._key, self._secret, self._region, now)
        try:
            answer = await self._http.put(url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise Refusal(f"Try again: the object store cannot be reached ({type(error).__name__}).") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Refusal(f"Try again: the object store answered {answer.status_code}.")
        if answer.status_code >= 300:
            raise Refusal(
                f"The object store refused the notes ({answer.status_code}). Check the bucket, region and key."
            )

    async def close(self) -> None:
        await self._http.aclose()


def sign(
    method: str, url: str, headers: dict[str, str], body: bytes, key: str, secret: str, region: str, at: datetime,
    service: str = "s3",
) -> dict[str, str]:  # fmt: skip
    """The headers with Signature Version 4 among them. https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    parts = urlsplit(url)
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(signed))
    request = "\n".join(
        (
            method,
            parts.path or "/",
            "&".join(sorted(part if "=" in part else f"{part}=" for part in parts.query.split("&") if part)),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            digest,
        )
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    own = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        own = hmac.new(own, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(own, text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={names},Signature={signature}"
    return signed


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
