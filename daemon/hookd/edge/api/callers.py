"""Owns what each caller holds of what all callers share: requests in progress, bytes of bodies, bytes of answers.

Rules:
 1. A caller is a token: the API knows no more of who asks. Several programs with one token are one caller.
 2. Where there are several tokens, one may hold half: of the connections with a request in progress
    (`http.connections_max`), of the bodies being received (`intake.receiving_bytes_max`), of the answers that are not
    taken (`http.sending_bytes_max`). Beyond that it gets 429, and the others have the rest.
 3. A share has room for one connection, one body or one page at least.
 4. Without tokens, or with a single one, there is nobody else to keep anything for.
Who has shown no token yet holds a connection, and nothing else; edge/server bounds that.
Limits: a `Caller` for each token with a request in progress, 100 at most; about 150 B each.
"""

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import ClientFull
from hookd.core.units import approximate_size, format_size

SHARES = 2
# Whatever is held over a share is held for moments, or for a minute at most.
RETRY_AFTER_SECONDS = 1


class Caller:
    """One token, while it has requests in progress."""

    def __init__(self, name: str, effective: EffectiveSettings, connections_max: int) -> None:
        self.name = name
        self._effective = effective
        self._connections_max = connections_max
        self.requests = self.body_bytes = self.answer_bytes = 0

    def refuse_request_over_share(self) -> None:
        """To be called before a request more is in progress. Raises ClientFull."""
        most = self._share(self._connections_max, least=1)
        if most is not None and self.requests >= most:
            raise self._refusal(f"{self.requests:,} requests in progress", "http.connections_max", f"{most:,}")

    def body_over_share(self, count: int) -> ClientFull | None:
        """Why so many bytes more of bodies are not taken, if so."""
        intake = self._effective.settings.intake
        most = self._share(intake.receiving_bytes_max, least=intake.body_bytes_max)
        if most is None or self.body_bytes + count <= most:
            return None
        held = f"{approximate_size(self.body_bytes)} of bodies being received"
        return self._refusal(held, "intake.receiving_bytes_max", format_size(most))

    def refuse_answer_over_share(self, count: int, *, bytes_max: int, least: int) -> None:
        """`bytes_max` is for all callers' answers of this kind. Raises ClientFull."""
        most = self._share(bytes_max, least=least)
        if most is not None and self.answer_bytes + count > most:
            held = f"{approximate_size(self.answer_bytes)} of answers that it has not taken yet"
            raise self._refusal(held, "http.sending_bytes_max", format_size(most))

    def _share(self, whole: int, *, least: int) -> int | None:
        """None: it may have everything."""
        if len(self._effective.settings.http.tokens) < 2:
            return None
        return max(least, -(-whole // SHARES))

    def _refusal(self, held: str, setting: str, share: str) -> ClientFull:
        detail = f"the token {self.name!r} has {held}; one token's share of {setting} is {share}"
        return ClientFull(detail, retry_after_seconds=RETRY_AFTER_SECONDS).at(setting)


class Callers:
    """Those with requests in progress, by the names of their tokens."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._connections_max = effective.settings.http.connections_max  # the server's, until a restart
        self._callers: dict[str, Caller] = {}

    def enter(self, name: str) -> Caller:
        """A request of this token begins. Raises ClientFull."""
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Caller(name, self._effective, self._connections_max)
        caller.refuse_request_over_share()
        caller.requests += 1
        return caller

    def leave(self, caller: Caller) -> None:
        """The request has its answer, or its peer is gone."""
        caller.requests -= 1
        if not caller.requests:
            del self._callers[caller.name]
