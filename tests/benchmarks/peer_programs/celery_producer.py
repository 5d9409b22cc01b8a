"""Queues tasks: each line on stdin is a number of events. Says "done" once all of them are delivered."""

import sys
import time

from celery_app import app, deliver

QUEUE, UNACKED = "celery", "unacked"
PAYLOAD = {"invoice": "in_1", "amount": 1999, "currency": "EUR"}
ASK_EVERY_SECONDS = 0.02

print(":0", flush=True)
for line in sys.stdin:
    for number in range(int(line)):
        deliver.apply_async((f"c{number % 50}", PAYLOAD))
    with app.connection_for_read() as connection:
        redis = connection.default_channel.client
        while redis.llen(QUEUE) or redis.hlen(UNACKED):
            time.sleep(ASK_EVERY_SECONDS)
    print("done", flush=True)
