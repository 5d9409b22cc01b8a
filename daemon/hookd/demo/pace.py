"""The pace of the demo: the settings that its daemon gets, and how long the demo waits for anything.

Owns every figure that more than one file of the demo uses. The settings have the shape of the defaults, and are faster.
"""

import json

SCHEDULE_SECONDS = (0.2, 0.4, 0.6, 0.8)
ATTEMPTS_MAX = 1 + len(SCHEDULE_SECONDS)
TIMEOUT_SECONDS = 1.0
CONCURRENCY = 4
DRAIN_SECONDS = 2.0
RETRY_AFTER_SECONDS = 2  # a receiver's
SETTINGS = {
    "HOOKD_RETRY__SCHEDULE": json.dumps([f"{delay:g}s" for delay in SCHEDULE_SECONDS]),
    "HOOKD_DELIVERY__TIMEOUT": f"{TIMEOUT_SECONDS:g}s",
    "HOOKD_DELIVERY__CONCURRENCY": str(CONCURRENCY),
    "HOOKD_DRAIN__TIMEOUT": f"{DRAIN_SECONDS:g}s",
}
# An exit later than this after the drain's end breaks the promise.
EXIT_GRACE_SECONDS = 2.0

START_SECONDS_MAX = 60.0  # bounds a hang: a busy machine takes long to load the daemon
SETTLE_SECONDS_MAX = 15.0
COMMAND_SECONDS_MAX = 30.0
HANG_SECONDS_MAX = 20.0  # how long a hanging receiver waits for the daemon to hang up
LOOK_EVERY_SECONDS = 0.02

# For who looks at the table: how long the first traffic lasts, and how long a verdict stands.
SHOWN_TRAFFIC_SECONDS = 10
SHOWN_VERDICT_SECONDS = 2.0
