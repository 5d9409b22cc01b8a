"""Owns how a request is signed: Standard Webhooks 1.0, symmetric (`v1,`), spec/standard-webhooks.md.

Signed content is `id.timestamp.body` over the raw bytes; a secret is `whsec_` and the base64 of 24 to 64 bytes.
Sign at the moment of the attempt: receivers allow the timestamp to be 300 s off.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret(random_bytes: bytes) -> str:
    return PREFIX + base64.b64encode(random_bytes).decode()


@lru_cache(maxsize=4096)  # about 200 B each; decoding anew at each attempt costs as much as the digest
def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))


def sign(secrets: Sequence[str], *, event_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` for each secret, single spaces between."""
    content = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    digests = (hmac.digest(_key(secret), content, hashlib.sha256) for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
