"""A webhook sender as Celery's documents show one: tasks in Redis, a prefork worker, sent by requests.

REDIS_PORT, SINK_PORT and EQUAL come by the environment; EQUAL=equal signs each and logs a line, as hookd does.
"""

import base64
import hashlib
import hmac
import json
import os
import time
import uuid

import requests
from celery import Celery

app = Celery("webhooks", broker=f"redis://127.0.0.1:{os.environ['REDIS_PORT']}/0")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)
session = requests.Session()
KEY = base64.b64decode("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0")
URL = f"http://127.0.0.1:{os.environ['SINK_PORT']}"
IS_EQUAL = os.environ["EQUAL"] == "equal"


@app.task(bind=True, max_retries=5)
def deliver(self, client, payload):
    body, headers, begun = json.dumps(payload), {"content-type": "application/json"}, time.monotonic()
    if IS_EQUAL:
        at, event_id = int(time.time()), f"evt_{uuid.uuid4()}"
        signed = hmac.new(KEY, f"{event_id}.{at}.{body}".encode(), hashlib.sha256).digest()
        headers |= {"webhook-id": event_id, "webhook-timestamp": str(at)}
        headers["webhook-signature"] = "v1," + base64.b64encode(signed).decode()
    answer = session.post(f"{URL}/{client}", data=body, headers=headers, timeout=15)
    if IS_EQUAL:
        with open("/dev/null", "a") as log:
            seconds = time.monotonic() - begun
            log.write(
                json.dumps({"event": "delivery.attempted", "status_code": answer.status_code, "s": seconds}) + "\n"
            )
    if answer.status_code != 200:
        raise self.retry(countdown=5)
