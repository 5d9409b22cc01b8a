"""The acts: one file each, with what it promises, what it does, what it saw, and how that is judged.

Owns their order. Traffic is made apart, since it is told how long to last. It comes before the others, and
on a terminal once more after them, until Enter.
"""

from hookd.demo.acts.act import Act, Seen
from hookd.demo.acts.down import DOWN
from hookd.demo.acts.flaky import FLAKY
from hookd.demo.acts.kill import KILL
from hookd.demo.acts.restart import RESTART
from hookd.demo.acts.slow import SLOW
from hookd.demo.acts.traffic import TRAFFIC_SECONDS, endless_act, traffic_act

ACTS = (SLOW, DOWN, FLAKY, RESTART, KILL)

__all__ = ["ACTS", "TRAFFIC_SECONDS", "Act", "Seen", "endless_act", "traffic_act"]
