"""docs/security.md against the code: each setting's default, and each fixed number, is what it says."""

import re
from pathlib import Path

import pytest
from hookd.core import client_schema, health, json_depth, registry, retention, retry_after, sizing
from hookd.core.settings import DEFAULTS, RULES, TOKEN_CHARACTERS_MIN, Kind
from hookd.core.units import parse_duration, parse_size
from hookd.edge import log_room, logs
from hookd.edge.api import answer_budget, auth, bodies, endpoint_routes, feed_pages, negotiation, pages, queries
from hookd.edge.egress import blemished_head, finishing, happy_eyeballs, long_heads, look_up_threads, resolver, wire
from hookd.edge.egress.resolver import AT_ONCE_MAX, HANGING_MAX, Standing
from hookd.edge.server import api_server, strangers

TEXT = (Path(__file__).parent.parent / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([a-z]+)\.([a-z_]+)`(?: \(([^)`]+)\))?")


def test_settings_that_are_named_exist_and_have_the_defaults_that_are_said() -> None:
    """A number in brackets behind a setting is its default."""
    said = 0
    for section, key, default in NAMED.findall(TEXT):
        rule = RULES[section][key]
        if not default:
            continue
        said += 1
        value = getattr(getattr(DEFAULTS, section), rule.field)
        match rule.kind:
            case Kind.SIZE:
                assert parse_size(default.replace(" ", "")) == value, key
            case Kind.DURATION:
                assert parse_duration(default.replace(" ", "")) == value, key
            case Kind.FLAG:
                assert default == str(value).lower(), key
            case _:
                assert default == str(value), key
    assert said > 20


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("{} KiB each", sizing.API_CONNECTION_BYTES // 1024),
        ("{} more for probes", api_server.SPARE_CONNECTIONS),
        ("for {:g} s | fixed", bodies.BODY_TIMEOUT_SECONDS),
        ("{} KiB a connection uncounted", answer_budget.SHORT_BYTES_MAX // 1024),
        ("{} MiB a page", pages.PAGE_BYTES_MAX // 2**20),
        ("a connection for {} s", feed_pages.WAIT_SECONDS_MAX),
        ("{:,} levels", json_depth.DEPTH_MAX),
        ("{} characters at least", TOKEN_CHARACTERS_MIN),
        ("one line in the log a second", auth.LINE_EVERY_SECONDS),
        ("{} KiB for each that may be", registry.REGISTERED_CLIENT_BYTES // 1024),
        ("over {} KiB only", long_heads.LONG_HEAD_BYTES // 1024),
        ("only {} at once of an endpoint", long_heads.LONG_HEADS_PER_ENDPOINT_MAX),
        ("of an endpoint and {} in all", long_heads.LONG_HEADS_MAX),
        ("{} MiB among them", logs.LINES_BYTES_MAX // 2**20),
        ("have {} KiB for each event", retention.ROW_BYTES // 1024),
        ("{} at once | fixed", endpoint_routes.TESTS_AT_ONCE_MAX),
        ("own up to {:g} h", client_schema.TIMEOUT_SECONDS_MAX / 3600),
        ("read for {:g} s more", finishing.BODY_SECONDS_MAX),
        ("| {} KiB, 256 fields", wire.HEAD_BYTES_MAX // 1024),
        ("{} fields", blemished_head.FIELDS_MAX),
        ("{} interim", wire.INTERIMS_MAX),
        ("| {:g} h, which", retry_after.RETRY_AFTER_SECONDS_MAX / 3600),
        ("{} are tried", happy_eyeballs.ADDRESSES_TRIED_MAX),
        ("tried, {} at once", happy_eyeballs.AT_ONCE_MAX),
        ("at work for {:g} s", look_up_threads.SLOW_SECONDS),
        ("{} threads in all", resolver.THREADS_MAX),
        ("over {:g} s, one probe", health.PAUSE_AFTER_SECONDS),
        ("{} KiB of it is kept", retention.EXCERPT_BYTES_MAX // 1024),
        ("to their end, {}", finishing.FINISHING_MAX),
        ("{} an endpoint: 256", finishing.FINISHING_PER_KEY_MAX),
        ("{} new names that hang", AT_ONCE_MAX[Standing.NEW] + HANGING_MAX[Standing.NEW]),
        ("{} that resolved before", AT_ONCE_MAX[Standing.GOOD] + HANGING_MAX[Standing.GOOD]),
        ("{:,} lines wait", logs.LINES_MAX),
        ("a quarter, {:,};", 2 * logs.LINES_MAX // log_room.SHARES),
        ("more than {} are refused", queries.PARAMETERS_MAX),
        ("more than {} are refused", negotiation.RANGES_MAX),
        ("or {} bits of an IPv6", strangers.IPV6_NETWORK_BITS),
    ],
)
def test_fixed_numbers_are_the_codes(said: str, number: float) -> None:
    """In the sentence that says it, however the lines are broken."""
    assert said.format(number) in " ".join(TEXT.split())
    assert number == 1 or "{" in said
