"""Owns the reading of `Retry-After` (RFC 9110, section 10.2.3), a header that strangers write.

Rules: ASCII digits or an IMF-fixdate; everything else is ignored, since a malformed header must never cost a
delivery. What is read is clamped to [0, 1 h]: longer is a mistake or an attack, and the events would expire.
"""

import calendar
import re

RETRY_AFTER_SECONDS_MAX = 3600.0

_DIGITS = re.compile(r"[0-9]{1,400}")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_IMF_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ("
    + "|".join(_MONTHS)
    + r") ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


def retry_after_seconds(header: str | None, *, now_wall: float) -> float | None:
    """How long to wait from now, in [0, 3600]; None where the header says nothing that can be read."""
    if header is None:
        return None
    text = header.strip(" \t")
    if _DIGITS.fullmatch(text):
        return min(float(text[:400]), RETRY_AFTER_SECONDS_MAX)
    date = _IMF_DATE.fullmatch(text)
    if date is None:
        return None
    day, month, year, hour, minute, second = date.groups()
    fields = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    if not _is_date(*fields):
        return None
    return min(max(calendar.timegm((*fields, 0, 0, 0)) - now_wall, 0.0), RETRY_AFTER_SECONDS_MAX)


def _is_date(year: int, month: int, day: int, hour: int, minute: int, second: int) -> bool:
    if year < 1970 or hour > 23 or minute > 59 or second > 60:
        return False
    return 1 <= day <= calendar.monthrange(year, month)[1]
