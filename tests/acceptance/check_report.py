"""Checks a shutdown report against what was posted and what receivers got: `check_report.py REPORT POSTED RECEIVED`.

It knows the contract and nothing of the daemon. POSTED has one line for each event and endpoint it is owed to, RECEIVED
one for each request that arrived, answered or not (`status: null`); both name `client_id`, `endpoint_id`, `event_id`
and `body_base64`. Prints every mistake; exit 1 if there are any.
"""

import base64
import json
import sys
from collections import Counter, defaultdict


def key_of(line):
    return line["client_id"], line["event_id"], line["endpoint_id"]


def mistakes(report, posted, received):
    raw_lines = report.removesuffix(b"\n").split(b"\n")
    summary, *lines = map(json.loads, raw_lines)
    body = {key_of(line): base64.b64decode(line["body_base64"]) for line in posted}
    answers = defaultdict(list)
    for line in received:
        answers[key_of(line)].append(line["status"])
        if base64.b64decode(line["body_base64"]) != body[key_of(line)]:
            yield f"{key_of(line)}: other bytes arrived than were posted"
    events, deliveries, lost = summary["events"], summary["deliveries"], Counter(one["kind"] for one in lines)
    for name, total, parts in (("events", "accepted", events), ("deliveries", "opened", deliveries)):
        if parts[total] != parts["delivered"] + parts["exhausted"] + parts["undelivered"]:
            yield f"{name} do not balance: {parts}"
    if not summary["balanced"] or lost["undelivered"] != deliveries["undelivered"]:
        yield f"{lost['undelivered']} lines undelivered, the summary says {deliveries}, balanced {summary['balanced']}"
    if events["accepted"] != len({key[:2] for key in body}) or deliveries["opened"] != len(body):
        yield f"posted {len(body)} deliveries, the summary says {events} and {deliveries}"
    if lost["exhausted"] != summary["exhausted_held"]:
        yield f"{lost['exhausted']} lines exhausted, the summary says {summary['exhausted_held']}"
    if Counter(one["class"] for one in lines if one["kind"] == "undelivered") != Counter(summary["undelivered"]):
        yield f"the classes do not add up to {summary['undelivered']}"
    if sum(client["undelivered"] for client in summary["clients"]) != lost["undelivered"]:
        yield "the clients' counts do not add up"
    if len(report.decode().splitlines()) != len(raw_lines):
        yield "a line holds a line break of Unicode's"
    listed = Counter(map(key_of, lines))
    for key in body.keys() | listed.keys():
        is_delivered = any(status is not None and 200 <= status < 300 for status in answers[key])
        if key not in body or listed[key] + is_delivered != 1:
            yield f"{key}: delivered {is_delivered}, listed {listed[key]} times, posted {key in body}"
    for raw, line in zip(raw_lines[1:], lines, strict=True):
        key, unanswered = key_of(line), line["attempt_count"] - sum(one is not None for one in answers[key_of(line)])
        if line.get("class") == "never_attempted" and (answers[key] or line["attempt_count"]):
            yield f"{key}: never_attempted, and {len(answers[key])} requests arrived"
        if line.get("class") == "attempted_failed" and (None in answers[key] or not line["attempt_count"]):
            yield f"{key}: attempted_failed, and a request was not answered"
        if line.get("class") == "outcome_unknown" and unanswered < 1:
            yield f"{key}: outcome_unknown, and every attempt was answered"
        if "payload_base64" in line and base64.b64decode(line["payload_base64"]) != body[key]:
            yield f"{key}: payload_base64 is not what was posted"
        if "payload_base64" not in line and b'"payload":' + body[key] not in raw:
            yield f"{key}: the payload is not what was posted"
        if line["payload"] != json.loads(body[key]):
            yield f"{key}: the payload is another value"


if __name__ == "__main__":
    contents = []
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            contents.append(file.read())
    found = list(mistakes(contents[0], *([json.loads(line) for line in text.splitlines()] for text in contents[1:])))
    print("\n".join(found) or "the report agrees with what was posted and received")
    sys.exit(bool(found))
