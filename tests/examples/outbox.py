"""A transactional outbox in front of hookd, to copy: at least once end to end, though a restart of hookd forgets all.

`add_event` goes into the transaction of the change that caused the event. One `relay` posts what is owed and ticks off
what hookd's settlement feed says has settled. All its state is in the database, so it may be killed at any moment; so
may hookd, and its host be lost. Ids stay the same: while hookd lives, posting again is safe; after it died, what was
delivered and not yet ticked off arrives again, under the same `webhook-id`, by which receivers tell.

    python -m tests.examples.outbox outbox.db 127.0.0.1:8080 clients.json
"""

import http.client
import json
import sqlite3
import sys
import time
from pathlib import Path

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY, client_id TEXT NOT NULL, id TEXT NOT NULL,
    event TEXT NOT NULL CHECK (length(event) < 300000),     -- as it is posted: hookd knows it again by its bytes
    posted INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    status TEXT,                                            -- NULL: owed. Else delivered, exhausted or refused
    UNIQUE (client_id, id));
CREATE INDEX IF NOT EXISTS owed ON outbox (tries, number) WHERE status IS NULL AND NOT posted;
CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY, cursor TEXT NOT NULL);
"""
# What was refused for want of room goes to the back, so that one client's full budget holds up no other client.
OWED = "SELECT number, event FROM outbox WHERE status IS NULL AND NOT posted ORDER BY tries, number LIMIT 50"
NOTE = "UPDATE outbox SET posted = ?, status = ?, tries = tries + 1 WHERE number = ?"
TICK = "UPDATE outbox SET status = :status WHERE client_id = :client_id AND id = :event_id"
HEADERS: dict[str, str] = {}  # where hookd has tokens: {"authorization": "Bearer ..."}; scope admin, as it registers


def add_event(db: sqlite3.Connection, client_id: str, event_id: str, event_type: str, payload: object) -> None:
    event = json.dumps({"client_id": client_id, "id": event_id, "type": event_type, "payload": payload})
    db.execute("INSERT INTO outbox (client_id, id, event) VALUES (?, ?, ?)", (client_id, event_id, event))


class Relay:
    """Run one at a time. `clients` stands for your own table of clients: a file with an object of id and definition."""

    def __init__(self, db: sqlite3.Connection, address: str, clients: str) -> None:
        self.db, self.hookd, self.clients = db, http.client.HTTPConnection(address, timeout=15), Path(clients)

    def run(self) -> None:
        more = False
        while True:
            try:
                self.read_feed(wait_seconds=0 if more else 1)  # so a new event is posted within a second
                more = self.post()
            except (OSError, http.client.HTTPException) as error:  # hookd is away; what is owed stays in the table
                print(f"hookd: {error!r}", file=sys.stderr)
                self.hookd.close()
                time.sleep(0.2)

    def post(self) -> bool:
        """Posts fifty of what is owed; False: nothing came of it, so wait a little."""
        rows = self.db.execute(OWED).fetchall()
        lines = "\n".join(event for _, event in rows)
        items = self.ask("POST", "/v1/events/batch?partial=true", lines)["events"] if rows else []
        with self.db:
            self.db.executemany(NOTE, [(*standing(item), row[0]) for row, item in zip(rows, items, strict=True)])
        return self.register(items) or any(item["status"] for item in items)

    def register(self, items: list[dict]) -> bool:
        """Of what hookd answered, the clients that it does not know; False: it knows all."""
        unknown = {item["client_id"] for item in items if not item["status"] and item["problem"]["status"] == 404}
        for client_id in unknown:  # hookd is new. Give the secret, or it makes another one each time
            try:
                definition = json.loads(self.clients.read_text()).get(client_id)
                self.ask("PUT", f"/v1/clients/{client_id}", json.dumps(definition))
            except ConnectionError as error:  # a definition that hookd does not take holds up this client alone
                print(f"hookd: {error}", file=sys.stderr)
        return bool(unknown)

    def read_feed(self, *, wait_seconds: int) -> None:
        """Ticks and cursor are written in one transaction, so no settlement is passed over."""
        cursor = "".join(f"&cursor={cursor}" for (cursor,) in self.db.execute("SELECT cursor FROM feed"))
        page = self.ask("GET", f"/v1/settlements?limit=1000&wait_seconds={wait_seconds}{cursor}")
        with self.db:
            self.db.executemany(TICK, page["settlements"])
            if page["gap"] or not cursor:  # another run, or too much settled meanwhile: ask again for all that is owed
                self.db.execute("UPDATE outbox SET posted = 0 WHERE status IS NULL")
            self.db.execute("REPLACE INTO feed VALUES (1, ?)", (page["next_cursor"],))

    def ask(self, method: str, path: str, body: str | None = None) -> dict:
        media_type = "application/x-ndjson" if method == "POST" else "application/json"
        self.hookd.request(method, path, body, {"content-type": media_type, **HEADERS})
        response = self.hookd.getresponse()
        answer = response.read()
        if response.status >= 300:  # a problem of hookd's, or a page of a proxy in front of it
            raise ConnectionError(f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}")
        return json.loads(answer)


def standing(item: dict) -> tuple[bool, str | None]:
    """Whether an event counts as posted, and its status, by what hookd answered for it."""
    if item["status"] is None:
        is_for_later = item["problem"]["status"] in (404, 429, 503)  # no client yet, or no room
        return False, None if is_for_later else "refused"  # 409, 413, 422: time does not mend it
    return True, item["status"] if item["status"] in ("delivered", "exhausted") else None  # an old one, settled by now


if __name__ == "__main__":
    database = sqlite3.connect(sys.argv[1], timeout=30)
    database.executescript(SCHEMA)
    Relay(database, *sys.argv[2:4]).run()
