"""Owns the reading of `Retry-After` (RFC 9110, section 10.2.3), a header that strangers write.

Rules:
 * Seconds in ASCII digits, with decimals or without, or a date in one of the three forms that RFC 9110 5.6.7 has
   recipients read: IMF-fixdate, RFC 850 and asctime. A year of two digits is never more than 50 ahead. The zone is GMT,
   by that name or as UTC or +0000; another one is no HTTP date.
 * The same value twice, as a proxy joins two lines, is that value.
 * Everything else is ignored, since a malformed header must never cost a delivery.
 * What is read is clamped to [0, 1 h]: longer is a mistake or an attack, and the events would expire.
"""

import calendar
import re
from datetime import UTC, datetime
from email.utils import parsedate_tz

RETRY_AFTER_SECONDS_MAX = 3600.0

_CHARACTERS_MAX = 1000
_SECONDS = re.compile(r"([0-9]{1,400})(?:\.[0-9]{1,400})?")
_DAY = r"[A-Z]{3,9}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ZONE = r"(?:GMT|UTC|[+-]0000)"
_DATE = re.compile(
    rf"{_DAY}, ?[0-9]{{1,2}} {_MONTH} (?P<imf_year>[0-9]{{4}}) {_CLOCK} {_ZONE}"  # IMF-fixdate
    rf"|{_DAY}, ?[0-9]{{2}}-{_MONTH}-(?P<short_year>[0-9]{{2}}) {_CLOCK} {_ZONE}"  # RFC 850
    rf"|{_DAY} {_MONTH} [0-9 ][0-9] {_CLOCK} (?P<asctime_year>[0-9]{{4}})",  # asctime
    re.IGNORECASE | re.ASCII,
)


def retry_after_seconds(header: str | None, *, now_wall: float) -> float | None:
    """How long to wait from now, in [0, 3600]; None where the header says nothing that can be read."""
    if header is None or len(header) > _CHARACTERS_MAX:
        return None
    text = _once(header.strip(" \t"))
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_SECONDS_MAX)
    date = _DATE.fullmatch(text)
    read = parsedate_tz(text) if date else None
    if date is None or read is None:
        return None
    fields = (_year(date, now_wall=now_wall), *read[1:6])
    if not _is_date(*fields):
        return None
    return min(max(calendar.timegm((*fields, 0, 0, 0)) - now_wall, 0.0), RETRY_AFTER_SECONDS_MAX)


def _once(text: str) -> str:
    """Half of a text that says the same twice, with a comma between."""
    half = len(text) // 2
    first, second = text[:half].rstrip(" \t,"), text[half:].lstrip(" \t,")
    return first if first == second and "," in text[len(first) : len(text) - len(second)] else text


def _year(date: re.Match[str], *, now_wall: float) -> int:
    """Of two digits the latest year that ends in them and is not more than 50 ahead. Not `email`'s: its 00 is 2000."""
    if date["short_year"] is None:
        return int(date["imf_year"] or date["asctime_year"])
    latest = datetime.fromtimestamp(now_wall, UTC).year + 50
    return latest - (latest - int(date["short_year"])) % 100


def _is_date(year: int, month: int, day: int, hour: int, minute: int, second: int) -> bool:
    if year < 1970 or hour > 23 or minute > 59 or second > 60:
        return False
    return 1 <= day <= calendar.monthrange(year, month)[1]
