"""Owns the name of one daemon among several: its form, and where it stands in the ids of events that come without one.

A proxy in front reads the daemon off `GET /v1/events/{id}`: evt_NAME_… is that daemon's. Without a name it is evt_….
"""

import re

HEADER = "hookd-shard"
_NAME = re.compile("[a-z0-9]{1,16}")


def is_shard_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def event_id_prefix(shard: str) -> str:
    return f"evt_{shard}_" if shard else "evt_"
