"""The configuration as an operator meets it: files, environment, flags, and every mistake with its place."""

import os
import tomllib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hookd.config.file import ConfigurationError, UnreadableConfiguration
from hookd.config.load import Loaded, load
from hookd.config.named_file import WAIT_SECONDS_MAX, read_named
from hookd.core.settings import DEFAULTS, RULES, Settings, TokenSettings

CONFIG = Path(__file__).parent.parent / "config"
MADE = "whsec_" + b64encode(b"m" * 24).decode()
OWN = "whsec_" + b64encode(b"o" * 24).decode()
ACME = f'[[clients]]\nid = "acme"\nurl = "https://example.com/"\nsecret = "{OWN}"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "h.toml"


def read(path: Path | None, **others: Any) -> Loaded:
    others = {"environ": {}, "new_secret": lambda: MADE} | others
    return load(None if path is None else str(path), **others)


def read_text(file: Path, text: str, **others: Any) -> Settings:
    file.write_text(text)
    return read(file, **others).settings


def mistakes(path: Path | None, text: str = "", **others: Any) -> list[str]:
    """The lines of the error, with the file called F."""
    if path is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read(path, **others)
    assert str(raised.value)
    return [line.replace(str(path), "F") for line in raised.value.lines]


def test_nothing_configured_is_the_defaults() -> None:
    """hookd needs no config."""
    assert read(None) == Loaded(Settings(), (), None)


# Commented out in config/hookd.toml: to say them would hide what the service manager gives.
OF_THE_PLACE = ("bind", "report_directory")


def test_documented_file_holds_every_key_with_its_default(file: Path) -> None:
    """config/hookd.toml and the code agree, key for key, in both directions."""
    text = (CONFIG / "hookd.toml").read_text()
    for key in OF_THE_PLACE:
        assert text.count(f"\n# {key} = ") == 1
        text = text.replace(f"\n# {key} = ", f"\n{key} = ")
    document = tomllib.loads(text)
    assert {section: set(table) for section, table in document.items()} == {
        section: set(rules) for section, rules in RULES.items()
    }
    assert read_text(file, text) == DEFAULTS
    assert read(CONFIG / "hookd.toml") == Loaded(DEFAULTS, (), str(CONFIG / "hookd.toml"))


def test_shipped_file_leaves_to_systemd_what_systemd_gives() -> None:
    """Its directory for state, and its sockets."""
    loaded = read(CONFIG / "hookd.toml", environ={"STATE_DIRECTORY": "/var/lib/hookd"}, handed_over=(3, 4))
    assert loaded.settings.drain.report_directory == "/var/lib/hookd/reports"
    assert loaded.settings.http.bind == ("fd://3", "fd://4")
    assert loaded.warnings == ()


def test_bind_that_is_said_wins_over_sockets_handed_over(file: Path) -> None:
    """Whichever way; sockets that it leaves out are warned of, since what connects there would wait for ever."""
    file.write_text('[http]\nbind = ["fd://3", "127.0.0.1:1"]\n')
    loaded = read(file, handed_over=(3,))
    assert loaded.settings.http.bind == ("fd://3", "127.0.0.1:1")
    assert loaded.warnings == ()
    loaded = read(None, environ={"HOOKD_HTTP__BIND": "127.0.0.1:1"}, handed_over=(3, 4))
    assert loaded.settings.http.bind == ("127.0.0.1:1",)
    left_out = "HOOKD_HTTP__BIND does not name fd://3, fd://4, which the service manager holds"
    assert loaded.warnings == (f"{left_out}: nobody accepts what connects there",)
    assert mistakes(file, "[http]\nbind = 5\n", handed_over=(3,)) != []


def test_documented_examples_load_when_uncommented(file: Path) -> None:
    """The commented tables of config/hookd.toml are true to the letter."""
    lines = (CONFIG / "hookd.toml").read_text().splitlines()
    start = lines.index("# [[http.tokens]]")
    examples = [line.removeprefix("# ") for line in lines[start : start + 4] + lines[lines.index("# [[clients]]") :]]
    (file.parent / "platform-token").write_text("sixteen-letters-0\n")
    (file.parent / "acme-secret").write_text(OWN + "\n")
    settings = read_text(file, "\n".join(examples))
    assert settings.http.tokens == (TokenSettings(name="platform", scope="produce", token="sixteen-letters-0"),)
    assert settings.clients[0].endpoints[0].secret == OWN
    assert settings.clients[0].endpoints[0].schedule_seconds == (10.0, 60.0)


def test_local_file_loads_under_dev_with_a_made_secret() -> None:
    """The laptop config needs --dev and nothing else."""
    loaded = read(CONFIG / "local.toml", dev=True)
    assert loaded.warnings == ()
    assert loaded.settings.dev
    assert [(c.id, c.managed_by_config, c.endpoints[0].secret) for c in loaded.settings.clients] == [
        ("acme", True, MADE)
    ]
    assert "needs secret_file" in str(mistakes_of(CONFIG / "local.toml"))


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        read(path)
    return list(raised.value.lines)


def test_all_mistakes_come_at_once_in_the_order_of_the_file(file: Path) -> None:
    """Every line names file, line and key; lists and strings over several lines do not shift the count."""
    text = '''# a comment
[delivery]
timeout = 15
concurrency = true   # [not a header]
timout = "3s"
[retry]
schedule = [
  "5s",  # ] is no end
  "5x",
]
jitter = 1
[intake]
payload_bytes_max = """x = 1
[fake]
""\\""""
batch_events_max = 0
"unsettled_bytes_max" = "0B"
drain.timeout = "1s"
[recovry]
enabled = true
[[clients]]
id = "acme"
[[clients.endpoints]]
id = "a"
url = "http://x/"
secret = "whsec_x"
[[clients.endpoints]]
urk = "https://x.example"
url = "https://x.example"
[clients.endpoints.headers]
host = "x"

[[clients]]
id = "acme"
url = "https://x.example/"
secret_file = "missing"
'''
    lines = mistakes(file, text)
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in lines] == [
        "F:3 delivery.timeout",
        "F:4 delivery.concurrency",
        "F:5 delivery.timout",
        "F:7 retry.schedule",
        "F:11 retry.jitter",
        "F:13 intake.payload_bytes_max",
        "F:16 intake.batch_events_max",
        "F:17 intake.unsettled_bytes_max",
        "F:18 intake.drain",
        "F:19 recovry",
        "F:25 clients[0].endpoints[0].url",
        "F:26 clients[0].endpoints[0].secret",
        "F:27 clients[0].endpoints[1]",
        "F:27 clients[0].endpoints[1]",
        "F:28 clients[0].endpoints[1].urk",
        "F:31 clients[0].endpoints[1].headers.host",
        "F:34 clients[1].id",
        "F:36 clients[1].secret_file",
    ]
    assert 'write "15s"' in lines[0]
    assert 'did you mean "timeout"' in lines[2]
    assert "entry 2" in lines[3]
    assert 'did you mean "recovery"' in lines[9]
    assert "line 22" in lines[16]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[delivery]\ntimeout = 15s\n", "F:2: not TOML: "),
        ("a = [1,\n", "F: not TOML: "),
        ("a = 1\na = 2\n", "F:2: not TOML: "),
        ("a = " + "9" * 5000, "F: not TOML: "),
        ("a = " + "[" * 5000, "F: not TOML: nested too deeply"),
    ],
)
def test_file_that_is_not_toml_is_named_with_its_line(file: Path, text: str, line: str) -> None:
    """A syntax mistake is one message, never a traceback."""
    assert mistakes(file, text)[0].startswith(line)


def test_file_that_cannot_be_read_is_one_mistake(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8: all are configuration errors; the first two have no content to be wrong."""
    (tmp_path / "latin").write_bytes(b"# a\n# \xe9\n")
    for name, message in [("none", "No such file"), (".", "directory"), ("latin", ":2: the file is not UTF-8")]:
        with pytest.raises(ConfigurationError, match=message) as raised:
            read(tmp_path / name)
        assert isinstance(raised.value, UnreadableConfiguration) == (name != "latin")


def test_word_that_a_setting_cannot_be_is_named_with_those_that_it_can(file: Path) -> None:
    """In the file and in the environment."""
    environ = {"HOOKD_LOG__ATTEMPTS": "some"}
    assert mistakes(file, '[log]\nlevel = "loud"', environ=environ) == [
        "F:2: log.level: must be one of 'info', 'warning', 'error'",
        "HOOKD_LOG__ATTEMPTS: must be one of 'all', 'failed', 'none'",
    ]


def test_flag_wins_over_environment_over_file_over_default(file: Path) -> None:
    """Each layer covers the one below it, key by key; a flag of None was not given."""
    text = '[delivery]\ntimeout = "1s"\nconcurrency = 2\nconnections_max = 3\n'
    environ = {"HOOKD_DELIVERY__TIMEOUT": "2s", "HOOKD_DELIVERY__CONCURRENCY": "4"}
    flags = {"delivery.timeout": 5.0, "http.bind": ["127.0.0.1:0"], "drain.report_directory": None}
    settings = read_text(file, text, environ=environ, flags=flags)
    assert settings.delivery.timeout_seconds == 5.0
    assert settings.delivery.concurrency == 4
    assert settings.delivery.connections_max == 3
    assert settings.delivery.response_bytes_max == DEFAULTS.delivery.response_bytes_max
    assert settings.http.bind == ("127.0.0.1:0",)


def test_flag_out_of_range_is_a_mistake_of_the_flag() -> None:
    """A flag's value is held to the same rules."""
    assert mistakes(None, flags={"delivery.timeout": 0.0, "intake.body_bytes_max": 1 << 50}) == [
        "delivery.timeout: must be more than 0s and at most 1h",
        "intake.body_bytes_max: must be at least 1B and at most 1024GiB",
    ]


@pytest.mark.parametrize(
    ("name", "text", "section", "field", "value"),
    [
        ("HOOKD_DELIVERY__TIMEOUT", "15m", "delivery", "timeout_seconds", 900.0),
        ("HOOKD_DELIVERY__TIMEOUT", '"15m"', "delivery", "timeout_seconds", 900.0),
        ("HOOKD_delivery__Concurrency", "3", "delivery", "concurrency", 3),
        ("HOOKD_RETRY__JITTER", "0", "retry", "jitter", 0.0),
        ("HOOKD_RETRY__SCHEDULE", '["1s", "2s"]', "retry", "schedule_seconds", (1.0, 2.0)),
        ("HOOKD_RETRY__SCHEDULE", "1s, 2s", "retry", "schedule_seconds", (1.0, 2.0)),
        ("HOOKD_RETRY__SCHEDULE", "", "retry", "schedule_seconds", ()),
        ("HOOKD_HTTP__BIND", "[::1]:8080", "http", "bind", ("[::1]:8080",)),
        ("HOOKD_EGRESS__ALLOW_HTTP", "true", "egress", "allow_http", True),
        ("HOOKD_EGRESS__DENY_PORTS", "[25, 6379]", "egress", "deny_ports", (25, 6379)),
        ("HOOKD_EGRESS__DENY_PORTS", "25, 6379", "egress", "deny_ports", (25, 6379)),
        ("HOOKD_EGRESS__DENY_PORTS", "25", "egress", "deny_ports", (25,)),
        ("HOOKD_EGRESS__DENY_PORTS", "", "egress", "deny_ports", ()),
        ("HOOKD_EGRESS__PROXY", "http://u:p@proxy.example:1", "egress", "proxy", "http://***@proxy.example:1"),
        ("HOOKD_DRAIN__REPORT_DIRECTORY", "2024", "drain", "report_directory", "2024"),
        ("HOOKD_DRAIN__REPORT_DIRECTORY", "a\nb = 1", "drain", "report_directory", "a\nb = 1"),
    ],
)
def test_environment_sets_scalars_and_lists(name: str, text: str, section: str, field: str, value: object) -> None:
    """The value is TOML, or the bare text."""
    assert getattr(getattr(read(None, environ={name: text}).settings, section), field) == value


def test_environment_with_a_bad_value_is_a_mistake_with_its_name(file: Path) -> None:
    """The variable is named, after what is wrong in the file."""
    environ = {"HOOKD_DELIVERY__TIMEOUT": "15", "HOOKD_EGRESS__ALLOW_HTTP": "yes"}
    for ports in ("smtp", "25, smtp", "true", "1.5", "99999999999999999999"):
        (line,) = mistakes(file, environ={"HOOKD_EGRESS__DENY_PORTS": ports})
        assert line.startswith("HOOKD_EGRESS__DENY_PORTS: ")
    assert mistakes(file, "[retry]\njitter = inf", environ=environ) == [
        "F:2: retry.jitter: must be at least 0 and less than 1",
        'HOOKD_DELIVERY__TIMEOUT: a duration needs a unit: write "15s", not "15"',
        "HOOKD_EGRESS__ALLOW_HTTP: must be true or false",
    ]


def test_environment_with_an_unknown_name_only_warns() -> None:
    """Names without a double underscore are not ours to judge."""
    environ = {"HOOKD_DELIVERY__TIMOUT": "1s", "HOOKD_URL": "x", "HOOKD_TOKEN_FILE": "y", "hookd_drain__timeout": "z"}
    loaded = read(None, environ=environ)
    assert loaded.settings == DEFAULTS
    (warning,) = loaded.warnings
    assert warning == 'HOOKD_DELIVERY__TIMOUT: no such key, ignored; did you mean "HOOKD_DELIVERY__TIMEOUT"?'


def test_conflict_between_keys_is_named_where_one_was_set(file: Path) -> None:
    """Of two keys that clash, the one the operator wrote gets the line."""
    (line,) = mistakes(file, '[intake]\nbody_bytes_max = "1KiB"')
    assert line.startswith("F:2: intake.body_bytes_max: intake.payload_bytes_max 256KiB does not fit")


def test_conflict_is_not_invented_from_a_bad_value(file: Path) -> None:
    """Where a key is wrong already, the default in its place accuses no other."""
    (line,) = mistakes(file, '[intake]\npayload_bytes_max = "x"\nbody_bytes_max = "1KiB"')
    assert line.startswith("F:2: intake.payload_bytes_max")


def test_bind_others_reach_is_refused_without_tokens(file: Path) -> None:
    """Both bad addresses are named, on the line of http.bind."""
    lines = mistakes(file, '[http]\nbind = ["127.0.0.1:1", "0.0.0.0:80", "[::]:80"]')
    assert [line[: line.index(" can be")] for line in lines] == [
        "F:2: http.bind: 0.0.0.0:80",
        "F:2: http.bind: [::]:80",
    ]


TOKEN = '[[http.tokens]]\nname = "a"\nscope = "admin"\ntoken_env = "T"\n'
GOOD_TOKEN = "correct-horse-battery"


def test_tokens_are_read_from_file_or_environment(file: Path) -> None:
    """Exactly one place, a known scope, a name of its own; the token itself is never repeated."""
    (file.parent / "t").write_text("from-file-from-file\n")
    head = '[[http.tokens]]\nname = "a"\nscope = "admin"\n'
    other = '[[http.tokens]]\nname = "b"\nscope = "read"\ntoken_env = "T"\n'
    settings = read_text(file, f'{head}token_file = "t"\n{other}', environ={"T": "from-env-from-env"})
    assert [token.token for token in settings.http.tokens] == ["from-file-from-file", "from-env-from-env"]
    lines = mistakes(
        file, f'{head}{head}token_file = "t"\ntoken_env = "T"\ntokn = "x"\n{other}', environ={"T": "hush hush"}
    )
    assert [line.split(": ")[0] for line in lines] == ["F:1", "F:5", "F:8", "F:9", "F:10"]
    assert "hush" not in str(lines)


def test_tokens_open_a_bind_that_others_reach(file: Path) -> None:
    """Refused without one, taken with one."""
    text = '[http]\nbind = ["0.0.0.0:80"]\n'
    assert "no [[http.tokens]]" in str(mistakes(file, text))
    assert read_text(file, text + TOKEN, environ={"T": GOOD_TOKEN}).http.tokens[0].scope == "admin"


@pytest.mark.parametrize("token", ["x" * 15, "x" * 1025, "sixteen-letters-é", "with a blank in it", "x" * 20 + "\x7f"])
def test_token_that_is_short_or_no_visible_ascii_is_refused(file: Path, token: str) -> None:
    """16 to 1024 characters; the message does not repeat it."""
    (line,) = mistakes(file, TOKEN, environ={"T": token})
    assert line.startswith("F:1: http.tokens[0]: the token must be 16 to 1024 characters of visible ASCII")
    assert token not in line


@pytest.mark.parametrize("token", ["x" * 16, "!~" * 512, f" {GOOD_TOKEN}\n"])
def test_token_of_a_good_shape_is_taken(file: Path, token: str) -> None:
    """The bounds themselves, and the line break that an editor leaves."""
    assert read_text(file, TOKEN, environ={"T": token}).http.tokens[0].token == token.strip()


def test_token_inline_is_refused_by_a_line_that_says_where_it_goes(file: Path) -> None:
    """A config file is copied, mailed and committed."""
    (line,) = mistakes(file, f'[[http.tokens]]\nname = "a"\nscope = "read"\ntoken = "{GOOD_TOKEN}"\n')
    assert line == "F:4: http.tokens[0].token: a token never stands in the file itself; write token_file or token_env"


def test_token_is_held_to_clients(file: Path) -> None:
    """Ids, at least one; left out it is held to none."""
    environ = {"T": GOOD_TOKEN}
    assert read_text(file, TOKEN, environ=environ).http.tokens[0].clients == ()
    held = read_text(file, TOKEN + 'clients = ["acme", "globex"]\n', environ=environ)
    assert held.http.tokens[0].clients == ("acme", "globex")
    many = ", ".join(f'"c{n}"' for n in range(1001))
    for wrong in ('"acme"', "[]", '["a b"]', "[1]", f"[{many}]"):
        (line,) = mistakes(file, f"{TOKEN}clients = {wrong}\n", environ=environ)
        assert line.startswith("F:5: http.tokens[0].clients: must be a list of 1 to 1,000 client ids")


def test_same_token_under_two_names_is_refused(file: Path) -> None:
    """Which name, and which scope, would it have?"""
    (line,) = mistakes(file, TOKEN + TOKEN.replace('"a"', '"b"'), environ={"T": GOOD_TOKEN})
    assert line == 'F:5: http.tokens[1]: the token is the same as that of "a"; make one for each'


def test_tokens_are_bounded_in_number(file: Path) -> None:
    """Each is compared at each request."""
    text = "".join(TOKEN.replace('"a"', f'"t{n}"').replace('"T"', f'"T{n}"') for n in range(101))
    environ = {f"T{n}": f"{GOOD_TOKEN}-{n}" for n in range(101)}
    (line,) = mistakes(file, text, environ=environ)
    assert "101 tokens; there may be 100" in line


def test_token_file_is_missing_empty_or_open_to_everyone(file: Path) -> None:
    """The first two are mistakes, the third a warning: who else is on the machine, only the operator knows."""
    text = TOKEN.replace("token_env", "token_file")
    assert "cannot be read" in mistakes(file, text)[0]
    (file.parent / "T").write_text("\n")
    assert "is empty" in mistakes(file, text)[0]
    (file.parent / "T").write_text(GOOD_TOKEN)
    (file.parent / "T").chmod(0o644)
    (warning,) = read(file).warnings
    assert warning.startswith(f"http.tokens[0].token_file: everyone on this machine can read {file.parent / 'T'}")
    (file.parent / "T").chmod(0o640)
    assert read(file).warnings == ()


def test_secrets_are_read_beside_the_file_or_from_the_credentials_folder(file: Path, tmp_path: Path) -> None:
    """Relative names mean the config's folder, or $CREDENTIALS_DIRECTORY where systemd sets it."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (tmp_path / "s").write_text(OWN)
    (credentials / "s").write_text(MADE + "\n")
    text = '[[clients]]\nid = "a"\nurl = "https://x/"\nsecret_file = "s"\n'
    assert read_text(file, text).clients[0].endpoints[0].secret == OWN
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert read_text(file, text, environ=environ).clients[0].endpoints[0].secret == MADE
    assert read_text(file, text.replace("_file", "_env"), environ={"s": OWN}).clients[0].endpoints[0].secret == OWN


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ("", "F:1: clients[0]", "needs secret_file, secret_env or secret"),
        ("", "F:1: clients[0]", 'for a file: echo "whsec_$(openssl rand -base64 32)" > FILE'),
        ('secret_file = "none"', "F:4: clients[0].secret_file", "cannot be read"),
        ('secret_file = "empty"', "F:4: clients[0].secret_file", "is empty"),
        ('secret_file = "bad"', "F:4: clients[0].secret_file", "must be"),
        ("secret_file = 5", "F:4: clients[0].secret_file", "must name a file"),
        ('secret_env = "NONE"', "F:4: clients[0].secret_env", "not set"),
        (f'secret = "{OWN}"\nsecret_env = "S"', "F:5: clients[0].secret_env", "only one of"),
    ],
)
def test_secret_that_cannot_be_had_is_one_mistake(file: Path, lines: str, where: str, what: str) -> None:
    """The line is that of the key that leads nowhere, and what it holds is not shown."""
    (file.parent / "empty").write_text("\n")
    (file.parent / "bad").write_text("hush")
    (line,) = mistakes(file, f'[[clients]]\nid = "a"\nurl = "https://x/"\n{lines}\n', environ={"S": OWN})
    assert line.startswith(f"{where}: ")
    assert what in line
    assert "hush" not in line


def test_clients_follow_the_settings_they_stand_with(file: Path) -> None:
    """allow_http, the bounds and the number of clients come from the same configuration."""
    text = ACME.replace("https", "http")
    assert "egress.allow_http" in mistakes(file, text)[0]
    assert read_text(file, "[egress]\nallow_http = true\n" + text).clients[0].endpoints[0].url == "http://example.com/"
    assert read_text(file, text, dev=True).egress.allow_http
    (line,) = mistakes(file, "[registry]\nclients_max = 1\n" + ACME + ACME.replace("acme", "b"))
    assert line == "F:3: clients: 2 clients, more than registry.clients_max (1)"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("clients = 5", "F:1: clients: "),
        ("clients = [5]", "F:1: clients[0]: "),
        ("http = 5", "F:1: http: "),
        ("[http]\ntokens = 5", "F:2: http.tokens: "),
        ("[http]\n\ntokens = [5]", "F:3: http.tokens[0]: "),
        ('[http]\nbind = "x"', "F:2: http.bind: "),
        ("[http]\nbind = []", "F:2: http.bind: "),
        ("[http]\nbind = [5]", "F:2: http.bind: "),
        ("[egress]\nallow_http = 1", "F:2: egress.allow_http: "),
        ("[retry]\njitter = 0x" + "f" * 300, "F:2: retry.jitter: "),
        ("[delivery]\ntimeout = nan", "F:2: delivery.timeout: "),
        ("[delivery]\ntimeout = 1979-05-27", "F:2: delivery.timeout: "),
        ('\n[[clients]]\nid = "a b"\nendpoints = [{url = "https://x/", secret = "y"}]', "F:3: clients[0].id: "),
        ("[[clients]]\nid = 'a'\nendpoints = 5", "F:3: clients[0].endpoints: "),
        ("[[clients]]\nid = 'a'\nendpoints = [5]", "F:3: clients[0].endpoints[0]: "),
    ],
)
def test_value_of_the_wrong_kind_is_named(file: Path, text: str, where: str) -> None:
    """Any TOML value in any place is a mistake with a line, never a traceback."""
    assert mistakes(file, text)[0].startswith(where)


def test_reports_go_to_the_state_directory_unless_told_otherwise(file: Path) -> None:
    """systemd's $STATE_DIRECTORY replaces the default and nothing else."""
    environ = {"STATE_DIRECTORY": "/var/lib/hookd:/other"}
    assert read(None, environ=environ).settings.drain.report_directory == "/var/lib/hookd/reports"
    assert read_text(file, '[drain]\nreport_directory = "reports"', environ=environ).drain.report_directory == "reports"
    assert read(None, environ=environ, flags={"drain.report_directory": "x"}).settings.drain.report_directory == "x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[recovery]\nenabled = true", "recorder.payloads is false"),
        ('[recovery]\nenabled = true\n[recorder]\ndirectory = ""', "the recorder is off"),
        ("[recovery]\nenabled = true\n[recorder]\npayloads = true\n[drain]\nreport_payloads = false", "a stop"),
        ("[recovery]\nenabled = true\n[recorder]\npayloads = true", None),
        ("[recorder]\npayloads = true", None),
    ],
)
def test_recovery_with_nothing_to_take_back_warns(file: Path, text: str, says: str | None) -> None:
    """Only reports with payloads can be taken up."""
    file.write_text(text)
    found = [warning for warning in read(file).warnings if warning.startswith("recovery.enabled: ")]
    assert len(found) == (says is not None)
    assert says is None or says in found[0]


def test_name_that_leads_to_no_plain_file_holds_nothing_up(file: Path, tmp_path: Path) -> None:
    """At SIGHUP the running daemon reads. Before: a FIFO without a writer held it for ever, with all that it had."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "long").write_bytes(b"x" * 70_000)
    entry = '[[http.tokens]]\nname = "a"\nscope = "read"\ntoken_file = "%s"\n'
    for name, words in (
        ("fifo", "fifo is empty"),
        ("long", "long cannot be read: it is longer than 65,536 bytes"),
        ("/dev/zero", "/dev/zero cannot be read: it is longer than 65,536 bytes"),
    ):
        (mistake,) = [line for line in mistakes(file, entry % name) if "cannot be read" in line or "is empty" in line]
        assert mistake.endswith(words)
    assert read(tmp_path / "fifo").settings == Settings()


def test_file_without_an_end_is_read_no_further_than_it_may_be() -> None:
    """Before: a configuration that was /dev/zero, or a log that grew over it, took all memory."""
    with pytest.raises(OSError, match="longer than 1,000 bytes"):
        read_named(Path("/dev/zero"), bytes_max=1000)


def test_pipe_is_read_to_its_end_and_not_waited_for(file: Path) -> None:
    """`--config <(…)` is one: what comes is taken, and what does not come is a mistake."""
    reader, writer = os.pipe()
    name = Path(f"/dev/fd/{reader}")
    os.write(writer, b"[drain]\ntimeout = '1s'\n")
    with pytest.raises(OSError, match=f"nothing comes from it for {WAIT_SECONDS_MAX:g} s"):
        read_named(name, bytes_max=1000)
    os.write(writer, b"[drain]\ntimeout = '1s'\n")
    os.close(writer)
    assert read(name).settings.drain.timeout_seconds == 1.0
    os.close(reader)
