"""Reads from when until when a certificate in PEM is valid, which Python's ssl tells of a peer's only.

Walks the DER (RFC 5280, 4.1) just far enough: version, serial number, algorithm, issuer, validity. It judges nothing.
"""

import base64
import datetime as dt
import re
from functools import lru_cache

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE, _INTEGER, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x02, 0x17, 0x18, 0xA0


@lru_cache(maxsize=64)  # asked for each endpoint of a page; at most 64 texts of 16 KiB that no endpoint has any more
def validity(pem: str) -> tuple[float, float]:
    """Of the first certificate, as Unix times: the first and the last second. Raises ValueError."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM")
    der = base64.b64decode("".join(found[1].split()), validate=True)
    try:
        at = _inside(der, _inside(der, 0, _SEQUENCE), _SEQUENCE)
        if der[at] == _VERSION:
            at = _behind(der, at, _VERSION)
        for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
            at = _behind(der, at, tag)
        at = _inside(der, at, _SEQUENCE)
        return _time(der, at), _time(der, _behind(der, at, der[at]))
    except IndexError:
        raise ValueError("the certificate is cut short") from None


def _inside(der: bytes, at: int, tag: int) -> int:
    """Where the content of the element begins."""
    return _content(der, at, tag)[0]


def _behind(der: bytes, at: int, tag: int) -> int:
    """Where the element behind it begins."""
    start, count = _content(der, at, tag)
    return start + count


def _content(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Its first byte, and how many there are."""
    if der[at] != tag:
        raise ValueError("no certificate of RFC 5280")
    first = der[at + 1]
    if first < 0x80:
        return at + 2, first
    size = first & 0x7F
    return at + 2 + size, int.from_bytes(der[at + 2 : at + 2 + size])


def _time(der: bytes, at: int) -> float:
    tag = der[at]
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no certificate of RFC 5280")
    start, count = _content(der, at, tag)
    text = der[start : start + count].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = f"{'20' if int(text[:2]) < 50 else '19'}{text}"
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
