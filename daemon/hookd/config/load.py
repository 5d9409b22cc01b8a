"""Configuration: what the operator wrote becomes one frozen `Settings`, or a list of every mistake in it.

Read `load` first. `file` reads the TOML file, `toml_lines` finds the line of a key, `environment` reads
`HOOKD_SECTION__KEY`, `values` turns text into values, `clients` and `credentials` read their tables, `findings` gathers
the mistakes.

Rules: a flag wins over the environment, the environment over the file, the file over the default. Nothing is half
taken: `load` returns, or it raises with all that it found. Unknown keys in the file are mistakes.

Does not: know the defaults or the ranges (core/settings), judge a client's definition (core/client_definition), or
touch folders and sockets: those are tried at the start.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import msgspec

from hookd.config.clients import ClientsReader
from hookd.config.credentials import Credentials
from hookd.config.egress_files import EgressFiles
from hookd.config.environment import variables
from hookd.config.file import ConfigFile, ConfigurationError
from hookd.config.findings import Findings, Origin
from hookd.config.values import converted
from hookd.core.endpoint_egress import EndpointEgress, ProveTls, TlsIdentity, unproved
from hookd.core.mistakes import Mistake, suggestion
from hookd.core.settings import DEFAULTS, RULES, Rule, Settings
from hookd.core.settings_checks import Conflict, conflicts, warnings


class Loaded(NamedTuple):
    settings: Settings
    warnings: tuple[str, ...]
    path: str | None


def load(
    path: str | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
    dev: bool = False,
    new_secret: Callable[[], str],
    prove: Callable[[Settings], Iterable[Conflict]] = lambda _settings: (),
    prove_tls: ProveTls = unproved,
    handed_over: Sequence[int] = (),
) -> Loaded:
    """Reads everything, or raises ConfigurationError. `flags`: key -> value of the field's type; None is not given.

    `handed_over` are the descriptors of sockets that the service manager holds: they take the place of the default of
    `http.bind`, as `$STATE_DIRECTORY` takes that of `drain.report_directory`.

    `prove` looks at what only the machine can tell, such as whether a certificate and its key belong together;
    `prove_tls` does so for certificates of the way out.
    """
    findings = Findings(ConfigFile.read(path))
    reading = _Reading(findings, Credentials(findings, environ))
    reading.take_file()
    reading.take_environment(environ)
    reading.take_flags(flags)
    if dev:
        reading.values["egress", "allow_http"] = True
    reading.take_place(environ.get("STATE_DIRECTORY", "").partition(":")[0], handed_over)
    settings = msgspec.structs.replace(reading.settings(), dev=dev)
    prove_tls = _once(prove_tls)
    egress = EgressFiles(findings, reading.credentials).shared(settings.egress, prove_tls)
    settings = msgspec.structs.replace(settings, egress=egress)
    clients = ClientsReader(findings, reading.credentials, settings, new_secret, prove_tls).read()
    settings = msgspec.structs.replace(settings, clients=clients)
    findings.note_conflicts((*conflicts(settings), *prove(settings)))
    if mistakes := findings.mistake_lines():
        raise ConfigurationError(mistakes)
    return Loaded(settings, (*findings.warnings, *warnings(settings)), path)


def _once(prove_tls: ProveTls) -> ProveTls:
    """The same certificate may stand at many endpoints, and to look into it takes 3 to 30 ms."""
    proved: dict[TlsIdentity | None, tuple[Mistake, ...]] = {}

    def prove(egress: EndpointEgress) -> tuple[Mistake, ...]:
        if egress.tls not in proved:
            proved[egress.tls] = tuple(prove_tls(egress))
        return proved[egress.tls]

    return prove


class _Reading:
    """The values gathered so far: what is taken later wins."""

    def __init__(self, findings: Findings, credentials: Credentials) -> None:
        self.findings = findings
        self.credentials = credentials
        self.values: dict[tuple[str, str], object] = {}  # (section, field) -> value

    def take_file(self) -> None:
        for section, table in self.findings.file.document.items():
            if section == "clients":
                continue
            if section not in RULES:
                self.findings.note_in_file((section,), f"unknown section{suggestion(section, (*RULES, 'clients'))}")
            elif not isinstance(table, dict):
                self.findings.note_in_file((section,), f"is a section: write [{section}] and its keys below")
            else:
                for key, raw in table.items():
                    self.take_file_key(section, key, raw)

    def take_file_key(self, section: str, key: str, raw: object) -> None:
        rule = RULES[section].get(key)
        if (section, key) == ("http", "tokens"):
            self.values["http", "tokens"] = self.credentials.tokens(raw)
        elif rule is None:
            self.findings.note_in_file((section, key), f"unknown key{suggestion(key, RULES[section])}")
        else:
            line = self.findings.file.line((section, key))
            self.take(section, key, rule, raw, Origin(f"{self.findings.file.name}:{line}: {section}.{key}", line))

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for variable in variables(environ, self.findings.warnings):
            self.take(variable.section, variable.key, variable.rule, variable.value, Origin(variable.name))

    def take_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            section, _, key = name.partition(".")
            if value is not None:
                self.take(section, key, RULES[section][key], value, Origin(name), typed=True)

    def take_place(self, state_directory: str, handed_over: Sequence[int]) -> None:
        """What the service manager gives, where nobody said otherwise."""
        origins = self.findings.origins
        if state_directory and "drain.report_directory" not in origins:
            self.values["drain", "report_directory"] = f"{state_directory}/reports"
        if not handed_over:
            return
        binds = tuple(f"fd://{number}" for number in handed_over)
        if "http.bind" not in origins:
            self.values["http", "bind"] = binds
        elif left_out := sorted({*binds}.difference(cast(Iterable[str], self.values.get(("http", "bind"), binds)))):
            said = f"{origins['http.bind'].shown} does not name {', '.join(left_out)}, which the service manager holds"
            self.findings.warnings.append(f"{said}: nobody accepts what connects there")

    def take(self, section: str, key: str, rule: Rule, raw: object, origin: Origin, *, typed: bool = False) -> None:
        value, details = converted(rule, raw, typed=typed)
        self.findings.origins[f"{section}.{key}"] = origin
        for detail in details:
            self.findings.note(f"{section}.{key}", detail)
        if not details:
            self.values[section, rule.field] = value

    def settings(self) -> Settings:
        sections = {}
        for section in RULES:
            given = {field: value for (of, field), value in self.values.items() if of == section}
            sections[section] = msgspec.structs.replace(getattr(DEFAULTS, section), **given)
        http = sections["http"]
        for field in ("certificate_file", "key_file"):
            if name := getattr(http, field):
                http = msgspec.structs.replace(http, **{field: str(self.credentials.path(name))})
        return Settings(**{**sections, "http": http})
