"""The settings tree: sums, warnings and rules between keys."""

import ipaddress

import pytest
from hookd.core.client import Client, Endpoint
from hookd.core.settings import (
    DEFAULTS,
    RULES,
    Bind,
    DrainSettings,
    EgressSettings,
    HttpSettings,
    IntakeSettings,
    RecorderSettings,
    RetrySettings,
    Settings,
    TokenSettings,
    conflicts,
    horizon_seconds,
    parse_bind,
    warnings,
    who_gets_in,
    worst_case_bytes,
)
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


def test_every_field_has_a_rule_but_the_tables() -> None:
    """A setting that could not be written in the file would be none; durations drop their unit."""
    for section, rules in RULES.items():
        fields = set(getattr(DEFAULTS, section).__struct_fields__) - {"tokens"}
        assert {rule.field for rule in rules.values()} == fields
    assert RULES["retry"].keys() == {"schedule", "jitter", "age_max"}
    assert set(RULES) | {"clients", "dev"} == set(Settings.__struct_fields__)


def test_worst_case_is_the_sum_of_what_each_key_allows() -> None:
    """The parts follow the keys, and the default is about a gibibyte."""
    parts = worst_case_bytes(DEFAULTS)
    assert parts["unsettled events"] == DEFAULTS.intake.unsettled_bytes_max
    assert parts["rows of settled events"] == 250_000 * 600
    assert parts["settlement feed"] == 140_000_000
    assert parts["responses being read"] == 4096 * 16 * 1024
    assert parts["bodies being received"] == (64 + 2 * 16) * 2**20
    assert parts["connections of the API"] == 1000 * 96 * 1024
    assert sum(parts.values()) < 1.2 * 2**30


def test_worst_case_counts_no_recorder_that_is_off() -> None:
    """An empty directory switches the recorder and its memory off."""
    off = replace(DEFAULTS, recorder=RecorderSettings(directory=""))
    assert worst_case_bytes(off)["flight recorder (shared memory)"] == 0


def test_horizon_is_the_sum_of_the_delays_with_jitter() -> None:
    """The default spreads six attempts over about 43 minutes."""
    earliest, latest = horizon_seconds(DEFAULTS.retry.schedule_seconds, 0.0)
    assert earliest == latest == 2555
    assert horizon_seconds((10.0, 20.0), 0.2) == pytest.approx((24, 36))
    assert horizon_seconds((), 0.2) == (0, 0)


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


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "a:", "a:65536", "[::1:80", "::1:80", "[x]:80", "[1.2]:80", "unix:", "fd://x"]
)
def test_bind_in_no_known_form_is_refused(text: str) -> None:
    """The forms there are stand in the message."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_bind(text)


def test_bind_is_taken_apart() -> None:
    """Whoever listens gets parts, not text."""
    assert parse_bind("[::1]:80") == Bind(host="::1", port=80)
    assert parse_bind("unix:/x") == Bind(path="/x")
    assert parse_bind("fd://3") == Bind(descriptor=3)
    assert ipaddress.ip_address(parse_bind("127.0.0.1:8080").host).is_loopback


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


def test_token_is_not_in_its_repr() -> None:
    """Settings may be printed."""
    assert "hush" not in repr(replace(DEFAULTS, http=HttpSettings(tokens=(TOKEN,))))


def test_recorder_that_is_too_small_for_one_event_is_a_conflict() -> None:
    """Payloads of the largest size must fit; with the recorder off nobody asks."""
    small = RecorderSettings(bytes_max=4 * 2**20, payloads=True)
    (found,) = conflicts(replace(DEFAULTS, recorder=small))
    assert found.keys == ("recorder.bytes_max",)
    assert "at least" in found.detail
    assert not list(conflicts(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=4 * 2**20))))
    assert not list(conflicts(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=1, directory=""))))


def test_recorder_with_less_room_than_the_budget_is_warned_of() -> None:
    """Intake would answer 503 before the budget is full."""
    (warned,) = warnings(replace(DEFAULTS, recorder=RecorderSettings(bytes_max=8 * 2**20)))
    assert warned.startswith("recorder.bytes_max: 8MiB has room for about ")
    assert warnings(DEFAULTS) == []
