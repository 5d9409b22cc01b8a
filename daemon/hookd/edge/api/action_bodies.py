"""Owns how the short JSON bodies of actions are read: of a replay, of a redelivery, of a rotation.

Rules: an unknown field and a wrong shape are 422 with a pointer, what is no JSON is 400. Nothing has happened then.
Limits: BODY_BYTES_MAX; more would only hold the loop.
"""

from typing import NamedTuple, TypeVar

import msgspec

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import mistake_of
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidQuery, Malformed
from hookd.core.text_check import check_text
from hookd.edge.api.bodies import JSON, has_body, read_body

BODY_BYTES_MAX = 64 * 1024

T = TypeVar("T")


class Action(NamedTuple):
    """What the answer to a wrong body calls it."""

    of: str  # a replay
    wrong: str  # this cannot be replayed
    hint: str  # what the shortest right body does

    def refusal(self, pointer: str, detail: str) -> InvalidQuery:
        mistake = Mistake(pointer, detail)
        return InvalidQuery(f"{self.wrong}: {pointer or 'it'} {detail}", mistakes=[mistake])

    def check_endpoint_id(self, endpoint_id: str | None) -> None:
        """Raises InvalidQuery where it is no id."""
        if endpoint_id is not None and not is_id(endpoint_id):
            raise self.refusal("/endpoint_id", "must be 1 to 64 of A-Z a-z 0-9 _ -")


async def read_action(
    effective: EffectiveSettings, action: Action, decoder: "msgspec.json.Decoder[T]", *, without: T | None = None
) -> T:
    """The body; `without` where there is none. Raises what `read_body` raises, and Malformed or InvalidQuery."""
    if without is not None and not has_body():
        return without
    body = await read_body(effective, JSON, bytes_max=BODY_BYTES_MAX)
    check_text(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        mistake = mistake_of(str(error), "", of=action.of)
        raise action.refusal(mistake.pointer, mistake.detail) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}; {action.hint}") from None
