"""What is kept of an answer so that it can be repeated: readable with the API key that asked for it, and nothing else.

The service keeps only a hash of an API key, so neither a copy of the database nor its operator can open a seal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Seal:
    """Encrypts, and recognises, under keys derived from an API key (HKDF-SHA256; Fernet: AES-128-CBC and HMAC)."""

    def __init__(self, api_key: str) -> None:
        self._secret = api_key.encode("utf-8", "surrogatepass")

    def fingerprint(self, *parts: bytes) -> str:
        """A digest that tells two requests apart, and nothing about them to whoever lacks the API key."""
        digest = hmac.new(self._derived(b"fingerprint"), digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()

    def close(self, content: bytes) -> str:
        """The content, unreadable."""
        return self._cipher().encrypt(content).decode()

    def open(self, sealed: str) -> bytes:
        """The content again.

        Raises:
            cryptography.fernet.InvalidToken: another API key sealed it, or it was changed.
        """
        return self._cipher().decrypt(sealed)

    def _cipher(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self._derived(b"body")))

    def _derived(self, purpose: bytes) -> bytes:
        return HKDF(SHA256(), 32, None, b"cage idempotency " + purpose).derive(self._secret)
