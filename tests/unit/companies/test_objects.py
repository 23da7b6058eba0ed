"""Raw notes as objects: signed as Amazon's own example is, in a bucket that checks the signature, and in a folder."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from pydantic import SecretStr

from quarterdeck.agents.companies.objects import objects, sign
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import CompaniesSettings

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AT = datetime(2013, 5, 24, tzinfo=UTC)


def test_the_signature_is_that_of_amazons_published_put_example() -> None:
    headers = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    url = "https://examplebucket.s3.amazonaws.com/test%24file.text"
    signed = sign("PUT", url, headers, b"Welcome to Amazon S3.", KEY, SECRET, "us-east-1", AT)
    assert signed["x-amz-content-sha256"] == "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_signature_is_that_of_amazons_published_list_example() -> None:
    url = "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"
    signed = sign("GET", url, {}, b"", KEY, SECRET, "us-east-1", AT)
    expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert signed["authorization"].endswith(f"Signature={expected}")


class Bucket:
    """Takes a PUT whose signature is right, worked out from what really came."""

    def __init__(self, secret: str = SECRET) -> None:
        self.secret, self.kept, self.answers = secret, dict[str, bytes](), list[int]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answers:
            return httpx.Response(self.answers.pop(0))
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request,SignedHeaders=([^,]+),Signature=(\w+)",
            request.headers["authorization"],
        )
        assert given is not None
        _, day, region, names, signature = given.groups()
        if hashlib.sha256(request.content).hexdigest() != request.headers["x-amz-content-sha256"]:
            return httpx.Response(400)
        lines = [request.method, request.url.raw_path.decode(), ""]
        lines += [f"{name}:{request.headers[name]}" for name in names.split(";")]
        canonical = "\n".join([*lines, "", names, request.headers["x-amz-content-sha256"]])
        stamp = request.headers["x-amz-date"]
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{day}/{region}/s3/aws4_request\n"
        text += hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self.secret}".encode()
        for part in (day, region, "s3", "aws4_request", text):
            key = hmac.digest(key, part.encode(), "sha256")
        if key.hex() != signature:
            return httpx.Response(403)
        self.kept[unquote(request.url.path)] = request.content
        return httpx.Response(200)


def settings(**more: object) -> CompaniesSettings:
    values = {"notes": "s3://kept/research/raw", "s3_endpoint": "http://127.0.0.1:9000", "s3_key": KEY}
    return CompaniesSettings.model_validate({**values, "s3_secret": SecretStr(SECRET), **more})


async def test_notes_go_into_a_bucket_and_again_under_the_same_name() -> None:
    bucket = Bucket()
    place = objects(settings(), httpx.MockTransport(bucket))
    assert place is not None
    for n in range(2):
        await place.put("job 1/0000007.json", {"queries": [f"ACME & Söhne {n}"]})
    await place.close()
    assert list(bucket.kept) == ["/kept/research/raw/job 1/0000007.json"]
    assert json.loads(bucket.kept.popitem()[1]) == {"queries": ["ACME & Söhne 1"]}


async def test_a_bucket_that_is_busy_is_worth_trying_again_and_one_that_refuses_is_not() -> None:
    bucket = Bucket()
    bucket.answers = [503]
    place = objects(settings(), httpx.MockTransport(bucket))
    assert place is not None
    with pytest.raises(Refusal, match=r"^Try again: the object store answered 503"):
        await place.put("a.json", {})
    bucket.secret = "another"
    with pytest.raises(Refusal, match=r"^The object store refused the notes \(403\)"):
        await place.put("a.json", {})
    await place.close()
    with pytest.raises(Refusal, match=r"companies\.s3_key"):
        objects(settings(s3_key=""))


async def test_notes_in_a_folder_are_whole_or_not_there(tmp_path: Path) -> None:
    place = objects(CompaniesSettings(notes=str(tmp_path / "notes")))
    assert place is not None
    await place.put("j/0000001.json", {"a": 1})
    await place.put("j/0000001.json", {"a": 2})
    (only,) = (tmp_path / "notes").rglob("*.json")
    assert json.loads(only.read_text()) == {"a": 2}
    assert [one.name for one in only.parent.iterdir()] == ["0000001.json"]
    assert objects(CompaniesSettings()) is None
