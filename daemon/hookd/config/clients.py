"""Reads `[[clients]]`: the API's definition of a client, with secrets that may stand elsewhere.

Rules: a mistake in a definition is noted at the line that it stands on. A client with a mistake is left out, and the
rest is still read.

Does not: judge a definition (core/client_definition).
"""

from collections.abc import Callable
from typing import Any, cast

from hookd.config.credentials import Credentials
from hookd.config.egress_files import ELSEWHERE, EgressFiles
from hookd.config.findings import Findings
from hookd.config.toml_lines import KeyPath
from hookd.core.client import Client
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.endpoint_egress import ProveTls
from hookd.core.ids import is_id
from hookd.core.settings import Settings

MISSING = (
    "needs secret_file, secret_env or secret (under --dev one is made); "
    'for a file: echo "whsec_$(openssl rand -base64 32)" > FILE'
)
_SECRET_KEYS = ("secret", "secret_file", "secret_env")
_ELSEWHERE = {"secret": _SECRET_KEYS[1:], **ELSEWHERE}


class ClientsReader:
    """Reads the clients of one configuration. `new_secret` makes a secret where none is given, under --dev."""

    def __init__(
        self,
        findings: Findings,
        credentials: Credentials,
        settings: Settings,
        new_secret: Callable[[], str],
        prove_tls: ProveTls,
    ) -> None:
        self._findings = findings
        self._credentials = credentials
        self._settings = settings
        self._new_secret = new_secret
        self._prove_tls = prove_tls
        self._egress_files = EgressFiles(findings, credentials)
        self._rules = ClientRules.of(settings)

    def read(self) -> tuple[Client, ...]:
        """Those without a mistake."""
        entries = self._findings.file.document.get("clients", [])
        if not isinstance(entries, list):
            self._findings.note_in_file(("clients",), "is a list of tables: write [[clients]]")
            return ()
        if len(entries) > self._settings.registry.clients_max:
            detail = f"{len(entries)} clients, more than registry.clients_max ({self._settings.registry.clients_max})"
            self._findings.note_in_file(("clients",), detail)
            return ()
        seen: dict[str, int] = {}
        clients = [self._client(("clients", index), entry, seen) for index, entry in enumerate(entries)]
        return tuple(client for client in clients if client is not None)

    def _client(self, at: tuple[str, int], entry: object, seen: dict[str, int]) -> Client | None:
        if not isinstance(entry, dict):
            self._findings.note_in_file(at, "is a table: write [[clients]]")
            return None
        client_id: Any = entry.get("id")
        if not is_id(client_id):
            detail = "must be 1 to 64 of the characters A-Z a-z 0-9 _ -" if "id" in entry else "a client needs an id"
            self._findings.note_in_file((*at, "id"), detail)
        elif seen.setdefault(client_id, at[1]) != at[1]:
            first = self._findings.file.line(("clients", seen[client_id], "id"))
            self._findings.note_in_file((*at, "id"), f'the client of line {first} is called "{client_id}" already')
        definition = self._with_secrets(at, entry)
        try:
            return client_from(
                definition,
                # A bad id was noted above; the rest of the definition is still worth reading.
                client_id=client_id if is_id(client_id) else "unnamed",
                rules=self._rules,
                new_secret=self._new_secret,
                managed_by_config=True,
                prove_tls=self._prove_tls,
            )
        except InvalidClient as error:
            for pointer, detail in error.mistakes:
                self._findings.note_in_file(self._path(at, pointer, entry), detail)
            return None

    def _with_secrets(self, at: KeyPath, entry: dict[str, Any]) -> dict[str, Any]:
        """The definition as the API would get it: no id, and what stands elsewhere filled in."""
        definition = {key: value for key, value in entry.items() if key != "id"}
        endpoints = definition.get("endpoints")
        if "endpoints" not in definition:
            return self._with_secret(at, definition)
        if isinstance(endpoints, list):
            definition["endpoints"] = [
                self._with_secret((*at, "endpoints", index), endpoint) if isinstance(endpoint, dict) else endpoint
                for index, endpoint in enumerate(endpoints)
            ]
        return definition

    def _with_secret(self, at: KeyPath, entry: dict[str, Any]) -> dict[str, Any]:
        plain = {key: value for key, value in entry.items() if key not in ("secret_file", "secret_env")}
        plain = self._egress_files.definition(at, plain)
        secret = self._credentials.secret(at, entry, _SECRET_KEYS)
        if secret is not None:
            return plain | {"secret": secret}
        # Only url makes it an endpoint: without one the definition's own mistake says more than a missing secret.
        if "url" in entry and entry.keys().isdisjoint(_SECRET_KEYS) and not self._settings.dev:
            self._findings.note_in_file(at, MISSING)
        return plain

    def _path(self, at: KeyPath, pointer: str, entry: dict[str, Any]) -> KeyPath:
        """Where in the file a pointer into the definition leads."""
        path, value = at, cast(Any, entry)
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list):
                path, value = (*path, int(key)), value[int(key)]
                continue
            if isinstance(value, dict) and key not in value:
                key = next((other for other in _ELSEWHERE.get(key, ()) if other in value), key)
            path, value = (*path, key), value.get(key) if isinstance(value, dict) else None
        return path
