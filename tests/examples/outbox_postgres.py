"""The outbox of outbox.py in PostgreSQL, to copy with it: several relays may run, and several platforms share a hookd.

`FOR UPDATE SKIP LOCKED`: each relay locks the rows that it posts, until it has noted what came of them; another takes
the next ones. All read the feed; whose page follows on the cursor writes its ticks. A tick waits for the note of its
row, so that it comes last. Who posts waits for no row, so nobody waits in a circle. A relay that is killed loses its
locks with its connection.

With `clients=` a platform reads its own settlements alone. hookd takes at most 100 ids there. With more clients, leave
it out: a tick of another platform's event finds no row.

    python -m tests.examples.outbox_postgres "dbname=shop" 127.0.0.1:8080 clients.json
"""

import http.client
import json
import sys
from pathlib import Path

import psycopg

from tests.examples import outbox

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client_id text NOT NULL, id text NOT NULL,
    event text NOT NULL CHECK (length(event) < 300000),     -- as it is posted: hookd knows it again by its bytes
    posted boolean NOT NULL DEFAULT false, tries integer NOT NULL DEFAULT 0,
    status text,                                            -- NULL: owed. Else delivered, exhausted or refused
    UNIQUE (client_id, id));
CREATE INDEX IF NOT EXISTS owed ON outbox (tries, number) WHERE status IS NULL AND NOT posted;
CREATE TABLE IF NOT EXISTS feed (one integer PRIMARY KEY CHECK (one = 1), cursor text);
INSERT INTO feed VALUES (1, NULL) ON CONFLICT DO NOTHING;
"""
OWED = """SELECT number, event FROM outbox WHERE status IS NULL AND NOT posted
    ORDER BY tries, number LIMIT 50 FOR UPDATE SKIP LOCKED"""
NOTE = "UPDATE outbox SET posted = %s, status = %s, tries = tries + 1 WHERE number = %s"
TICK = "UPDATE outbox SET status = %(status)s WHERE client_id = %(client_id)s AND id = %(event_id)s"


def add_event(db: psycopg.Connection, client_id: str, event_id: str, event_type: str, payload: object) -> None:
    event = json.dumps({"client_id": client_id, "id": event_id, "type": event_type, "payload": payload})
    db.execute("INSERT INTO outbox (client_id, id, event) VALUES (%s, %s, %s)", (client_id, event_id, event))


class Relay(outbox.Relay):
    """Run as many as you like. It ends when the database goes; let your service manager start it again."""

    def __init__(self, db: psycopg.Connection, address: str, clients: str) -> None:
        self.db, self.hookd, self.clients = db, http.client.HTTPConnection(address, timeout=15), Path(clients)
        self.own = ",".join(json.loads(self.clients.read_text()))

    def post(self) -> bool:
        """Posts fifty of what is owed and free; False: nothing came of it, so wait a little."""
        with self.db.transaction(), self.db.cursor() as cursor:
            rows = cursor.execute(OWED).fetchall()
            lines = "\n".join(event for _, event in rows)
            items = self.ask("POST", "/v1/events/batch?partial=true", lines)["events"] if rows else []
            notes = [(*outbox.standing(item), row[0]) for row, item in zip(rows, items, strict=True)]
            cursor.executemany(NOTE, notes)
        return self.register(items) or any(item["status"] for item in items)

    def read_feed(self, *, wait_seconds: int) -> None:
        """Ticks and cursor are written in one transaction, so no settlement is passed over. No lock is held before."""
        seen = self.db.execute("SELECT cursor FROM feed").fetchone()
        asked = f"/v1/settlements?limit=1000&wait_seconds={wait_seconds}&clients={self.own}"
        page = self.ask("GET", f"{asked}&cursor={seen[0]}" if seen[0] else asked)
        with self.db.transaction(), self.db.cursor() as cursor:
            if cursor.execute("SELECT cursor FROM feed FOR UPDATE").fetchone() != seen:
                return  # another relay was here first
            cursor.executemany(TICK, page["settlements"])
            if page["gap"] or not seen[0]:  # another run, or too much settled meanwhile: ask again for all that is owed
                cursor.execute("UPDATE outbox SET posted = false WHERE status IS NULL")
            cursor.execute("UPDATE feed SET cursor = %s", (page["next_cursor"],))


if __name__ == "__main__":
    with psycopg.connect(sys.argv[1], autocommit=True) as database:
        database.execute(SCHEMA)
        Relay(database, *sys.argv[2:4]).run()
