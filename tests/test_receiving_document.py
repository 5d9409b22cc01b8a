"""docs/receiving.md: each piece of code verifies what hookd signs and refuses the rest; a repeat changes nothing."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hookd.core.signature import make_secret, sign

DOCUMENT = (Path(__file__).parent.parent / "docs" / "receiving.md").read_text(encoding="utf-8")
SECRET, OTHER_SECRET = make_secret(bytes(range(32))), make_secret(bytes(24))
BODY = '{"amount": 42, "to": "Žofie \\u00e9"}'.encode()
# Generous: a first `go run` builds its library.
SECONDS_MAX = 120

# How a language asks its `verify`: the secret is the argument; each line of stdin is id, timestamp, signatures and
# body, with tabs between; yes or no is printed for each.
PYTHON = """
import sys
for line in sys.stdin.buffer.read().splitlines():
    *headers, body = line.split(b"\\t")
    print("yes" if verify(sys.argv[1], *(header.decode() for header in headers), body) else "no")
"""
NODE = """
import { readFileSync } from "node:fs";
for (const line of readFileSync(0).toString("latin1").split("\\n").slice(0, -1)) {
  const [id, timestamp, signatures, body] = line.split("\\t");
  console.log(verify(process.argv[2], id, timestamp, signatures, Buffer.from(body, "latin1")) ? "yes" : "no");
}
"""
GO = """
func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), "\\t", 4)
		if verify(os.Args[1], fields[0], fields[1], fields[2], []byte(fields[3])) {
			os.Stdout.WriteString("yes\\n")
		} else {
			os.Stdout.WriteString("no\\n")
		}
	}
}
"""
RUBY = """
STDIN.binmode.each_line(chomp: true) do |line|
  puts verify(ARGV[0], *line.split("\\t", 4)) ? "yes" : "no"
end
"""
PHP = """
while (($line = fgets(STDIN)) !== false) {
    echo verify($argv[1], ...explode("\\t", rtrim($line, "\\n"), 4)) ? "yes\\n" : "no\\n";
}
"""
JAVA = """
class Asking {
    public static void main(String[] arguments) throws Exception {
        var latin1 = StandardCharsets.ISO_8859_1;
        for (String line : new String(System.in.readAllBytes(), latin1).split("\\n")) {
            String[] fields = line.split("\\t", 4);
            boolean good = Webhooks.verify(arguments[0], fields[0], fields[1], fields[2], fields[3].getBytes(latin1));
            System.out.println(good ? "yes" : "no");
        }
    }
}

"""


def code(language: str) -> str:
    """The page's first block of the language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, language
    return found[1]


# What runs it, the file's name, and what is run.
Language = tuple[list[str], str, Callable[[], str]]
LANGUAGES: dict[str, Language] = {
    "python": ([sys.executable], "verify.py", lambda: code("python") + PYTHON),
    "node": (["node"], "verify.mjs", lambda: code("js") + NODE),
    "go": (["go", "run"], "verify.go", lambda: code("go").replace("import (", 'import (\n\t"bufio"\n\t"os"') + GO),
    "ruby": (["ruby"], "verify.rb", lambda: code("ruby") + RUBY),
    "php": (["php"], "verify.php", lambda: code("php") + PHP),
    # The launcher of a single file starts its first class.
    "java": (["java"], "Asking.java", lambda: code("java").replace("final class", JAVA + "final class")),
}


def asked() -> list[tuple[tuple[str, str, str, bytes], str]]:
    """What is verified, and what is to be said of it."""
    now = int(time.time())

    def signed(*secrets: str, event_id: str = "inv-1", timestamp: int = now) -> tuple[str, str, str, bytes]:
        signatures = sign(secrets, event_id=event_id, timestamp=timestamp, body=BODY)
        return event_id, str(timestamp), signatures, BODY

    genuine = signed(SECRET)
    return [
        (genuine, "yes"),
        (signed(OTHER_SECRET, SECRET), "yes"),  # while the secret is being changed
        (signed(SECRET, timestamp=now - 200), "yes"),
        (signed(OTHER_SECRET), "no"),
        (signed(SECRET, timestamp=now - 400), "no"),
        (signed(SECRET, timestamp=now + 400), "no"),
        (("inv-2", *genuine[1:]), "no"),
        ((*genuine[:3], BODY + b" "), "no"),
        ((genuine[0], genuine[1], genuine[2].removeprefix("v1,"), BODY), "no"),
        ((genuine[0], "", genuine[2], BODY), "no"),
        ((genuine[0], "soon", genuine[2], BODY), "no"),
        ((genuine[0], genuine[1], "", BODY), "no"),
        (("", *genuine[1:]), "no"),
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_verification_in_each_language_says_yes_and_no_where_it_should(language: str, tmp_path: Path) -> None:
    """Genuine, rotated and a little old: yes. Changed, by another secret, too old, from the future, incomplete: no."""
    command, name, source = LANGUAGES[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    (tmp_path / name).write_text(source(), encoding="utf-8")
    cases = asked()
    lines = [b"\t".join([*(field.encode() for field in fields[:3]), fields[3]]) for fields, _ in cases]
    ran = subprocess.run(
        [*command, name, SECRET],
        input=b"\n".join(lines) + b"\n",
        cwd=tmp_path,
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
        capture_output=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout.decode().split() == [said for _, said in cases]


def test_deduplication_does_the_work_once_or_not_at_all() -> None:
    """A repeat changes nothing; work that fails leaves no note, so the next attempt does it."""
    block = DOCUMENT[DOCUMENT.index("# CREATE TABLE seen") :].partition("```")[0]
    db = sqlite3.connect(":memory:")
    db.execute(block.partition("\n")[0].removeprefix("# "))
    booked: list[str] = []

    def book(_: sqlite3.Connection, payload: str) -> None:
        if payload == "bad":
            raise LookupError(payload)
        booked.append(payload)

    names: dict[str, object] = {"book": book}
    exec(block, names)
    receive = names["receive"]
    assert callable(receive)
    for event_id, payload in (("inv-1", "first"), ("inv-1", "first"), ("inv-2", "second")):
        receive(db, event_id, payload)
    assert booked == ["first", "second"]
    with pytest.raises(LookupError):
        receive(db, "inv-3", "bad")
    receive(db, "inv-3", "third")
    assert booked == ["first", "second", "third"]
    db.close()


def test_page_names_the_numbers_that_hold() -> None:
    """Deadline, overlap and the memory of what settled are the defaults."""
    from hookd.core.settings import DEFAULTS

    assert DEFAULTS.delivery.timeout_seconds == 15
    assert "within 15 s (`delivery.timeout`)" in DOCUMENT
    assert DEFAULTS.delivery.secret_overlap_seconds == 24 * 3600
    assert "`delivery.secret_overlap` (24 h)" in DOCUMENT
    assert (DEFAULTS.retry.age_seconds_max, DEFAULTS.retention.age_seconds_max) == (3600, 24 * 3600)
    assert "retries for an hour and remembers what settled for a day" in DOCUMENT
