"""docs/enterprise-endpoints.md against the code: settings and fields that it names, its numbers, what failures say."""

import re
from pathlib import Path

import pytest
from hookd.config.egress_files import CA_FILE_BYTES_MAX, ELSEWHERE
from hookd.core.client_schema import PEM_CHARS_MAX, EndpointDefinition
from hookd.core.endpoint_egress import Proxy
from hookd.core.settings import DEFAULTS, RULES
from hookd.core.sizing import CA_BYTES_A_CHARACTER, TLS_CONTEXT_BYTES
from hookd.edge.egress.tunnel import refusal

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "enterprise-endpoints.md").read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())


def test_table_names_settings_and_fields_that_exist() -> None:
    """Those of all, of the API and of the configuration, each in its column; and no new one is left out."""
    rows = [row.split("|")[2:5] for row in TEXT.splitlines() if re.match(r"\| (trust|show|go|deny) ", row)]
    shared, api, config = (set(re.findall(r"`(\w+)`", "".join(column))) for column in zip(*rows, strict=True))
    assert shared == set(RULES["egress"]) - {"allow_http", "allow_networks", "tls_contexts_max"}
    assert api == {"ca", "client_certificate", "client_key", "proxy"} <= set(EndpointDefinition.__struct_fields__)
    assert config == {name for names in ELSEWHERE.values() for name in names} | {"proxy"}


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("up to {} KiB. They are trusted", CA_FILE_BYTES_MAX // 1024),
        ("own `ca`, up to {} KiB", PEM_CHARS_MAX // 1024),
        ("`egress.tls_contexts_max` ({})", DEFAULTS.egress.tls_contexts_max),
        ("up to {} MiB with long chains", TLS_CONTEXT_BYTES // 2**20),
        ("eight times `ca_file`", CA_BYTES_A_CHARACTER),
    ],
)
def test_numbers_are_the_codes(said: str, number: int) -> None:
    assert said.format(number) in WORDS
    assert "{" in said or number == 8


def test_what_a_proxys_refusal_says_is_what_is_said() -> None:
    open_proxy, with_credentials = Proxy("h", 1), Proxy("h", 1, "a:b")
    for error in (refusal(407, open_proxy), refusal(407, with_credentials)):
        assert f"`{error}`" in TEXT
    for status in (403, 503):
        said = str(refusal(status, open_proxy))
        assert f"`{said.partition(':')[0]}: …`" in TEXT
        assert said.partition(": ")[2] in WORDS
