"""Owns the ways in which hookd says no to a request, each with the slug the outside knows it by.

Rules: a refusal is raised before anything is changed; its message names ids and numbers, never payloads or
secrets. It does not know HTTP: the one table from slug to status stands in edge/api/problems.
"""

from collections.abc import Sequence
from typing import Self

from hookd.core.mistakes import Mistake


class Refused(Exception):
    """A request that is not done, and why.

    `mistakes` point into the request's body (RFC 6901); `retry_after_seconds` is set where waiting may help;
    `extra` are further members of the problem, for machines.
    """

    slug = "internal"

    def __init__(
        self,
        detail: str,
        *,
        mistakes: Sequence[Mistake] = (),
        retry_after_seconds: int | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.mistakes = tuple(mistakes)
        self.retry_after_seconds = retry_after_seconds
        self.extra = extra

    def without_frames(self) -> Self:
        """To be kept. The frames that it came through may hold it: only the garbage collector would free both.

        So may those of the error behind it.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class Malformed(Refused):
    slug = "malformed-json"


class InvalidEvent(Refused):
    slug = "invalid-event"


class InvalidDefinition(Refused):
    slug = "invalid-client"


class InvalidQuery(Refused):
    slug = "invalid-query"


class TooLarge(Refused):
    slug = "too-large"


class UnsupportedMediaType(Refused):
    slug = "unsupported-media-type"


class NotAcceptable(Refused):
    slug = "not-acceptable"


class BodyTimeout(Refused):
    slug = "body-timeout"


class UnknownClient(Refused):
    slug = "unknown-client"


class UnknownEvent(Refused):
    slug = "unknown-event"


class Unauthorized(Refused):
    slug = "unauthorized"


class Forbidden(Refused):
    slug = "forbidden"


class NotFound(Refused):
    slug = "not-found"


class IdConflict(Refused):
    slug = "id-conflict"


class PayloadForgotten(Refused):
    slug = "payload-forgotten"


class NoPayload(Refused):
    slug = "no-payload"


class AmbiguousId(Refused):
    slug = "ambiguous-id"


class ManagedByConfig(Refused):
    slug = "managed-by-config"


class UnsettledDeliveries(Refused):
    slug = "unsettled-deliveries"


class EndpointDisabled(Refused):
    slug = "endpoint-disabled"


class RegistryFull(Refused):
    slug = "registry-full"


class WantOfRoom(Refused):
    """`limit` is the setting that is used up."""

    limit = ""
    client_id: str | None = None

    def at(self, limit: str, client_id: str | None = None) -> Self:
        self.limit, self.client_id = limit, client_id
        return self


class ClientFull(WantOfRoom):
    """`client_id` is set where it is the client's share of what it may hold, and not a token's of what it asks."""

    slug = "client-full"


class Full(WantOfRoom):
    slug = "full"


class Draining(Refused):
    slug = "draining"
