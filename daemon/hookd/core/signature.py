"""Owns how a request is signed: Standard Webhooks 1.0, symmetric (`v1,`), spec/standard-webhooks.md.

Signed content is `id.timestamp.body` over the raw bytes; a secret is `whsec_` and the base64 of 24 to 64 bytes.
Sign at the moment of the attempt: receivers allow the timestamp to be 300 s off.
"""

import base64
import hashlib
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache

PREFIX = "whsec_"
SECRET_BYTES = 32
SIGNING_KEYS_MAX = 4096  # of the secrets used last

_BLOCK_BYTES = 64  # of SHA-256
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def make_secret(random_bytes: bytes) -> str:
    return PREFIX + base64.b64encode(random_bytes).decode()


def sign(secrets: Sequence[str], *, event_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` for each secret, single spaces between."""
    content = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    if len(secrets) == 1:  # as nearly always
        return _signed(secrets[0], content)
    return " ".join([_signed(secret, content) for secret in secrets])


def _signed(secret: str, content: bytes) -> str:
    inner, outer = _begun(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(content)
    outer.update(inner.digest())
    return "v1," + b2a_base64(outer.digest(), newline=False).decode()


@lru_cache(maxsize=SIGNING_KEYS_MAX)  # about 700 B each; the rest of a digest of 250 bytes is 2 us, all of it anew 5
def _begun(secret: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC (RFC 2104) as far as it depends on the key alone: its padded block, hashed for inside and for outside."""
    key = base64.b64decode(secret.removeprefix(PREFIX)).ljust(_BLOCK_BYTES, b"\0")
    assert len(key) == _BLOCK_BYTES, "core/client_schema takes keys of a block at most"
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))
