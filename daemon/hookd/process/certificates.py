"""Owns until when the daemon's own certificates are valid: that of the API, and that of `[egress]` for endpoints.

Does not: know those of single endpoints. `GET /v1/clients/CLIENT` shows when each of them expires.
"""

from collections.abc import Mapping

from hookd.core.certificate_validity import validity
from hookd.core.settings import EgressSettings


def expire_at(of_api: float | None, egress: EgressSettings) -> Mapping[str, float]:
    """Wall times by whose it is: `api` and `egress`, where there is one."""
    found = {} if of_api is None else {"api": of_api}
    if egress.shared is not None and egress.shared.client_certificate:
        found["egress"] = validity(egress.shared.client_certificate)[1]
    return found
