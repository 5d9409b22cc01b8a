"""Conflicts between settings, and warnings."""

import pytest
from hookd.core.client import Client, Endpoint
from hookd.core.settings import (
    DEFAULTS,
    RULES,
    DrainSettings,
    EgressSettings,
    HttpSettings,
    IntakeSettings,
    RecorderSettings,
    RetrySettings,
    Settings,
    TokenSettings,
)
from hookd.core.settings_checks import conflicts, warnings, who_gets_in
from msgspec.structs import replace

TOKEN = TokenSettings(name="ops", scope="admin", token="hush-hush")


def conflicting_keys(settings: Settings) -> list[str]:
    return [conflict.keys[0] for conflict in conflicts(settings)]


def test_defaults_are_in_range_without_conflicts_or_warnings() -> None:
    """Out of the box there is nothing to complain about."""
    for section, rules in RULES.items():
        for key, rule in rules.items():
            value = getattr(getattr(DEFAULTS, section), rule.field)
            numbers = value if rule.entries else (value,)
            assert [rule.range_mistake(number) for number in numbers if rule.range] == [""] * len(
                numbers
            ) or not rule.range, key
    assert list(conflicts(DEFAULTS)) == []
    assert warnings(DEFAULTS) == []


def test_warnings_name_too_few_attempts_for_default_and_endpoint() -> None:
    """Less than three attempts do not outlive a restart of the endpoint."""
    endpoint = Endpoint(id="a", url="https://x/", secret="whsec_", schedule_seconds=())
    settings = replace(
        DEFAULTS,
        retry=RetrySettings(schedule_seconds=(1.0,)),
        clients=(Client(id="acme", endpoints=(endpoint,)),),
    )
    default, one = warnings(settings)
    assert default.startswith("retry.schedule: only 2 attempts")
    assert one.startswith("clients acme endpoint a: schedule: only 1 attempt in")


def test_warnings_name_a_drain_shorter_than_an_attempt() -> None:
    """A stop would cut attempts that were going to be answered."""
    endpoint = Endpoint(id="a", url="https://x/", secret="whsec_", timeout_seconds=30.0)
    clients = (Client(id="acme", endpoints=(endpoint,)),)
    assert [line.partition(":")[0] for line in warnings(replace(DEFAULTS, clients=clients))] == [
        "clients acme endpoint a"
    ]
    short = replace(DEFAULTS, drain=DrainSettings(timeout_seconds=10.0))
    assert "drain.timeout (10s) is shorter than 15s" in warnings(short)[0]


def test_warnings_name_an_age_below_the_horizon_and_budgets_out_of_order() -> None:
    """What can never happen is pointed out although each number is legal."""
    assert "retry.age_max" in warnings(replace(DEFAULTS, retry=RetrySettings(age_seconds_max=60.0)))[0]
    intake = IntakeSettings(
        client_events_max=200_000, client_bytes_max=2**30, payload_bytes_max=2**29, body_bytes_max=2**29
    )
    assert [line.partition(":")[0] for line in warnings(replace(DEFAULTS, intake=intake))] == [
        "intake.client_events_max",
        "intake.client_bytes_max",
        "intake.payload_bytes_max",
        "intake.body_bytes_max",
    ]


def test_conflicts_are_found_between_keys() -> None:
    """A payload fits into a body, TLS has both files, networks are networks, reports have a folder."""
    assert conflicting_keys(replace(DEFAULTS, intake=IntakeSettings(body_bytes_max=1024))) == [
        "intake.payload_bytes_max"
    ]
    assert conflicting_keys(replace(DEFAULTS, http=HttpSettings(key_file="k"))) == ["http.key_file"]
    networks = EgressSettings(allow_networks=("10.0.0.0/8", "10.0.0.1/8", "nope"))
    assert conflicting_keys(replace(DEFAULTS, egress=networks)) == ["egress.allow_networks"] * 2
    assert conflicting_keys(replace(DEFAULTS, drain=DrainSettings(report_directory=""))) == ["drain.report_directory"]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:0", "127.8.9.1:80", "[::1]:8080", "localhost:1", "unix:/run/h.sock", "fd://3"]
)
def test_bind_only_this_machine_reaches_needs_no_tokens(text: str) -> None:
    """Loopback addresses, unix sockets and inherited descriptors are as safe as the machine."""
    assert conflicting_keys(replace(DEFAULTS, http=HttpSettings(bind=(text,)))) == []


@pytest.mark.parametrize(
    "text", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "example.com:80", "127.1:80", "[::ffff:127.0.0.1]:80"]
)
def test_bind_others_reach_needs_tokens(text: str) -> None:
    """Without tokens it is refused, with tokens it is not."""
    assert conflicting_keys(replace(DEFAULTS, http=HttpSettings(bind=(text,)))) == ["http.bind"]
    assert conflicting_keys(replace(DEFAULTS, http=HttpSettings(bind=(text,), tokens=(TOKEN,)))) == []


def test_check_says_who_gets_in() -> None:
    """Nobody from outside, or whose tokens, and which addresses carry them in clear text or cannot be judged yet."""
    assert who_gets_in(DEFAULTS) == ["access: no tokens, so only programs on this machine, and no web page"]
    binds = ("127.0.0.1:1", "0.0.0.0:2", "fd://3", "unix:/x")
    plain, secured = HttpSettings(bind=binds, tokens=(TOKEN,)), HttpSettings(bind=binds[1:2], certificate_file="c")
    assert who_gets_in(replace(DEFAULTS, http=plain)) == [
        "access: tokens ops (admin)",
        "  0.0.0.0:2 is plain http: tokens and payloads cross the network as clear text",
        "  fd://3 is judged by its address once it is inherited",
    ]
    assert len(who_gets_in(replace(DEFAULTS, http=secured))) == 1


def test_recorder_that_is_too_small_for_one_event_is_a_conflict() -> None:
    """Payloads of the largest size must fit; with the recorder off nobody asks."""
    small = RecorderSettings(bytes_max=4 * 2**20, payloads=True)
    (found,) = conflicts(replace(DEFAULTS, recorder=small))
    assert found.keys == ("recorder.bytes_max",)
    assert "at least" in found.detail
    assert not list(conflicts(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=4 * 2**20))))
    assert not list(conflicts(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=1, directory=""))))


def test_recorder_with_less_room_than_the_budget_is_warned_of() -> None:
    """Intake would answer 503 before the budget is full, and a client 429 before it has what it may have."""
    whole, share = warnings(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=8 * 2**20)))
    assert whole.startswith("recorder.bytes_max: 8MiB has room for about ")
    assert share.startswith("recorder.bytes_max: 8MiB has room for about ")
    assert "of one client, fewer than intake.client_events_max (20,000); that client gets 429" in share
    assert warnings(DEFAULTS) == []


def test_no_share_of_the_recorder_is_spoken_of_where_one_client_may_have_everything() -> None:
    intake = IntakeSettings(client_events_max=100_000)
    (whole,) = warnings(replace(DEFAULTS, intake=intake, recorder=RecorderSettings(bytes_max=8 * 2**20)))
    assert whole.endswith("intake answers 503 then")
