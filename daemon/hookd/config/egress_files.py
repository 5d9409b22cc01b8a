"""Reads what `[egress]` and the endpoints of `[[clients]]` keep in files: authorities, certificates, keys, credentials.

An endpoint's `…_file` and `…_env` become the texts that the API would get. What `[egress]` names becomes
`EgressSettings.shared`: its texts, not its names, so that a reload sees when a file changed.

Rules: a key or a password that everyone on this machine can read is a warning. No message repeats what a file holds.

Does not look into PEM: `ProveTls` does.
"""

from typing import Any

import msgspec

from hookd.config.credentials import Credentials, Unreadable
from hookd.config.findings import Findings
from hookd.config.toml_lines import KeyPath
from hookd.core.endpoint_egress import EndpointEgress, ProveTls, Proxy
from hookd.core.proxy_url import proxy_from, with_credentials
from hookd.core.settings import EgressSettings

# A whole system's authorities are a quarter of a MiB.
CA_FILE_BYTES_MAX = 512 * 1024
_FILE_BYTES_MAX = 64 * 1024
# Where the text of an endpoint's field may stand instead.
ELSEWHERE = {
    "ca": ("ca_file",),
    "client_certificate": ("client_certificate_file",),
    "client_key": ("client_key_file", "client_key_env"),
    "proxy_credentials": ("proxy_credentials_file", "proxy_credentials_env"),
}
_NAMES = {key for keys in ELSEWHERE.values() for key in keys}
_PUBLIC = ("ca", "client_certificate")


class EgressFiles:
    def __init__(self, findings: Findings, credentials: Credentials) -> None:
        self._findings = findings
        self._credentials = credentials

    def shared(self, egress: EgressSettings, prove_tls: ProveTls) -> EgressSettings:
        """With what its files hold, for the endpoints that have nothing of their own."""
        found = EndpointEgress(
            ca=self._text(egress, "ca_file", bytes_max=CA_FILE_BYTES_MAX),
            client_certificate=self._text(egress, "client_certificate_file"),
            client_key=self._text(egress, "client_key_file"),
            proxy=self._proxy(egress),
        )
        if found == EndpointEgress():
            return egress
        if bool(found.client_certificate) == bool(found.client_key):
            for part, detail in prove_tls(found):
                key = f"{part}_file"
                self._findings.note(f"egress.{key}", f"{self._credentials.path(getattr(egress, key))} {detail}")
        proxy = found.proxy.shown if found.proxy is not None else ""
        return msgspec.structs.replace(egress, shared=found, proxy=proxy)

    def definition(self, at: KeyPath, entry: dict[str, Any]) -> dict[str, Any]:
        """An endpoint's definition as the API would get it."""
        found = {key: value for key, value in entry.items() if key not in _NAMES}
        is_mistaken = False
        for field, keys in ELSEWHERE.items():
            given = [key for key in keys if key in entry]
            if not given:
                continue
            text = self._credentials.secret(at, entry, (field, *keys), is_secret=field not in _PUBLIC)
            if text is None:
                is_mistaken = True
            elif field == "proxy_credentials":
                found["proxy"] = self._joined((*at, given[0]), found.get("proxy"), text)
            else:
                found[field] = text
        if is_mistaken:  # it was noted: half of a pair would only be another mistake
            return {key: value for key, value in found.items() if not key.startswith("client_")}
        return found

    def _joined(self, at: KeyPath, proxy: object, credentials: str) -> object:
        """The proxy's URL with the credentials in it."""
        try:
            if not isinstance(proxy, str) or not proxy:
                raise ValueError("there is no proxy to show them to")
            return with_credentials(proxy, credentials)
        except ValueError as error:
            self._findings.note_in_file(at, str(error))
            return proxy

    def _text(self, egress: EgressSettings, key: str, *, bytes_max: int = _FILE_BYTES_MAX) -> str:
        name = getattr(egress, key)
        if not name:
            return ""
        try:
            text, warning = self._credentials.text_in_file(name, bytes_max=bytes_max)
        except Unreadable as unreadable:
            self._findings.note(f"egress.{key}", str(unreadable))
            return ""
        if not text:
            self._findings.note(f"egress.{key}", f"{self._credentials.path(name)} is empty")
        elif warning and not key.startswith(_PUBLIC):
            self._findings.warnings.append(f"egress.{key}: {warning}")
        return text

    def _proxy(self, egress: EgressSettings) -> Proxy | None:
        if not egress.proxy:
            return None
        credentials = self._text(egress, "proxy_credentials_file")
        try:
            url = with_credentials(egress.proxy, credentials) if credentials else egress.proxy
            return proxy_from(url, is_judged=False)
        except ValueError as error:
            self._findings.note("egress.proxy", str(error))
            return None
