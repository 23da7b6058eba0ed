"""The key that push notifications are signed with: made once and kept in home; everybody may have its public half."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

GOOD_FOR_S = 300


class Signer:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._key: EllipticCurvePrivateKey | None = None

    def sign(self, body: bytes) -> str:
        """A JWT that says: this body is ours, and it was sent just now."""
        import jwt

        now = int(time.time())
        claims = {"iss": "quarterdeck", "iat": now, "exp": now + GOOD_FOR_S, "request_body_sha256": _hash(body)}
        return jwt.encode(claims, self._private(), algorithm="ES256", headers={"kid": self._kid()})

    def keys(self) -> dict[str, Any]:
        """The public keys, as a JSON web key set."""
        from jwt.algorithms import ECAlgorithm

        public = json.loads(ECAlgorithm.to_jwk(self._private().public_key()))
        return {"keys": [{**public, "kid": self._kid(), "use": "sig", "alg": "ES256"}]}

    def _kid(self) -> str:
        numbers = self._private().public_key().public_numbers()
        return _hash(f"{numbers.x}.{numbers.y}".encode())[:16]

    def _private(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        if self._key is None:
            path = self._home / "push.key"
            if not path.exists():
                made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
                own = path.with_name(f"push.key.{os.getpid()}")
                own.touch(mode=0o600)
                own.write_bytes(made)
                try:
                    os.link(own, path)  # the first of two processes that start together gives the key
                except FileExistsError:
                    pass
                own.unlink()
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
        return self._key


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
