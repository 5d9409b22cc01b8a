"""Owns the commands that a command prints for people to paste: each reaches the daemon that this one spoke to."""

import shlex
from typing import NamedTuple


class HookdCommands(NamedTuple):
    """Those of this command line, with the options that this one was given; the environment holds for them as well."""

    url: str | None = None
    token_file: str | None = None

    def resume(self, client_id: str, endpoint_id: str) -> str:
        return self._command("resume", client_id, endpoint_id)

    def retry(self, client_id: str, event_id: str) -> str:
        return self._command("retry", client_id, event_id)

    def explain(self, name: str) -> str:
        return self._command("explain", name)

    def redeliver(self, client_id: str, event_id: str) -> str:
        return self._command("redeliver", client_id, event_id)

    def _command(self, verb: str, *names: str) -> str:
        given = {"--url": self.url, "--token-file": self.token_file}
        options = [word for option, value in given.items() if value for word in (option, value)]
        apart = ["--"] if any(name.startswith("-") for name in names) else []  # an id may, and would be an option
        return shlex.join(["hookd", verb, *options, *apart, *names])
