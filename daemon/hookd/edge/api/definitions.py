"""Owns how a request's bytes become a client: bounded, decoded, read by core/client_definition.

Rules: what is too much is refused before anything is built. An endpoint keeps the secret that it has; a new one is made
one, which the answer alone tells.
"""

from collections.abc import Sequence

import msgspec

from hookd.core.client import Client
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidDefinition, Malformed, TooLarge
from hookd.core.text_check import check_text
from hookd.edge.api.services import Services

# What one endpoint of a definition may take in the body. At its longest it has 260 values in 160 KiB. An empty object
# takes 3 bytes of a body and 72 of memory; a text with one letter beyond the basic plane takes four times its length.
ENDPOINT_BYTES_MAX = 256 * 1024
ENDPOINT_VALUES_MAX = 4096


class Definitions:
    def __init__(self, services: Services) -> None:
        self._services = services

    def decode(self, text: bytes) -> object:
        """Raises TooLarge before anything is built, or Malformed."""
        _refuse_many_values(text, self._services.effective.settings.registry.endpoints_max * ENDPOINT_VALUES_MAX)
        check_text(text)
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"the body is not JSON: {cut(str(error))}") from None

    async def prove(self, client_id: str, definition: object) -> None:
        """Looks into authorities, certificates and keys, where there are any. Raises InvalidDefinition.

        It waits, and what is registered may change meanwhile: `define` comes after it.
        """
        if not _has_certificates(definition):
            return
        client, _ = self.define(client_id, definition)
        mistakes = [
            Mistake(f"/endpoints/{number}/{part}", detail)
            for number, endpoint in enumerate(client.endpoints)
            if endpoint.egress is not None and endpoint.egress.tls is not None
            for part, detail in await self._services.prove_tls(endpoint.egress)
        ]
        if mistakes:
            raise _refused(mistakes)

    def define(self, client_id: str, definition: object) -> tuple[Client, dict[str, str]]:
        """The client, and the secrets that were made for it. Raises InvalidDefinition with every mistake."""
        if not is_id(client_id):
            detail = "a client's id is 1 to 64 of A-Z a-z 0-9 _ -"
            raise InvalidDefinition(detail, mistakes=[Mistake("", "id in the path")])
        rules = ClientRules.of(self._services.effective.settings)
        old = self._services.registry.find(client_id)
        kept = {} if old is None else {endpoint.id: endpoint.secret for endpoint in old.endpoints}
        fresh: list[str] = []

        def new_secret() -> str:
            fresh.append(self._services.new_secret())
            return fresh[-1]

        try:
            client = client_from(definition, client_id=client_id, rules=rules, new_secret=new_secret, secrets=kept)
        except InvalidClient as invalid:
            raise _refused(invalid.mistakes) from None
        return client, {endpoint.id: endpoint.secret for endpoint in client.endpoints if endpoint.secret in fresh}


def _has_certificates(definition: object) -> bool:
    endpoints = definition.get("endpoints") if isinstance(definition, dict) else None
    if not isinstance(endpoints, list):
        return False
    return any(isinstance(one, dict) and (one.get("ca") or one.get("client_certificate")) for one in endpoints)


def _refused(mistakes: Sequence[Mistake]) -> InvalidDefinition:
    first = mistakes[0]
    more = f"; and {len(mistakes) - 1:,} more, in errors" if len(mistakes) > 1 else ""
    said = f"the client is not valid: {first.pointer or 'it'} {first.detail}{more}"
    return InvalidDefinition(said, mistakes=mistakes)


def _refuse_many_values(body: bytes, most: int) -> None:
    """Raises TooLarge before anything is built: commas and brackets are counted, those in texts as well."""
    count = body.count(b",") + body.count(b"[") + body.count(b"{")
    if count > most:
        raise TooLarge(
            f"the definition has {count:,} commas and brackets; as registry.endpoints_max is, at most {most:,} are read"
        )
