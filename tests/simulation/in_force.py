"""What is in force at an endpoint, and from when to when: its schedule, its secrets, and holds, which no age counts.

From outside a change has no moment of its own, it lies between a question and its answer. So each of these knows the
least and the most: what holds for sure, and what may hold. Nothing is read from the daemon.
"""

import math
from dataclasses import dataclass, field

OLD_SECRETS_MAX = 3
RETRY_AFTER_SECONDS_MAX = 3600.0
RETRY_AFTER_LONGER = 1.2  # than asked, at most, and never longer than the hour


@dataclass(eq=False)
class InForce:
    """A schedule, and when it may be in force."""

    schedule: tuple[float, ...]
    begins: float
    ends: float = math.inf


@dataclass
class Schedules:
    spans: list[InForce] = field(default_factory=list)

    def offer(self, schedule: tuple[float, ...], now: float) -> InForce:
        """It may be in force from now on, beside the others."""
        self.spans.append(InForce(schedule, now))
        return self.spans[-1]

    def settle(self, chosen: InForce, now: float) -> None:
        """From now on it is the only one."""
        for span in self.spans:
            if span is not chosen:
                span.ends = min(span.ends, now)

    def replace(self, schedule: tuple[float, ...], now: float) -> None:
        """From now on, of what is in force."""
        for span in self.spans:
            if span.ends > now:
                span.ends = now
                self.spans.append(InForce(schedule, now))
                return

    def end(self, now: float) -> None:
        for span in self.spans:
            span.ends = min(span.ends, now)

    def between(self, since: float, until: float) -> list[tuple[float, ...]]:
        """Those that may have been in force at some moment in between."""
        return [span.schedule for span in self.spans if span.begins <= until and span.ends >= since]


@dataclass(eq=False)
class Standing:
    """The endpoint's age clock stands: perhaps from `begins` to `ends`, for sure from `sure_from` to `sure_until`."""

    is_pause: bool  # by an operator; else by Retry-After
    begins: float
    sure_from: float
    sure_until: float = math.inf
    ends: float = math.inf


@dataclass
class Holds:
    """When no attempt is to be made on purpose: such time is no part of any delivery's age."""

    spans: list[Standing] = field(default_factory=list)

    def pause_asked(self, now: float) -> None:
        if not any(one.is_pause and one.ends == math.inf for one in self.spans):
            self.spans.append(Standing(is_pause=True, begins=now, sure_from=math.inf))

    def paused(self, now: float) -> None:
        for one in self.spans:
            if one.is_pause and one.ends == math.inf:
                one.sure_from = min(one.sure_from, now)

    def hold(self, read_at: float, now: float, seconds: float, *, is_sure: bool) -> None:
        """An answer said Retry-After; its head was read then, and the answer was over now."""
        longest = min(seconds * RETRY_AFTER_LONGER, RETRY_AFTER_SECONDS_MAX)
        sure_from = now if is_sure else math.inf
        span = Standing(is_pause=False, begins=read_at, sure_from=sure_from, sure_until=now + seconds)
        span.ends = now + longest
        self.spans.append(span)

    def lift_asked(self, now: float, *, pauses: bool) -> None:
        """Nothing stands for sure any more; a PUT with another URL leaves an operator's pause."""
        for one in self.spans:
            if pauses or not one.is_pause:
                one.sure_until = min(one.sure_until, now)

    def lifted(self, asked_at: float, now: float, *, pauses: bool) -> None:
        """What began after the question may have come after the lifting too."""
        for one in self.spans:
            if (pauses or not one.is_pause) and one.begins < asked_at:
                one.ends = min(one.ends, now)

    def may_be_paused(self, now: float) -> bool:
        return any(one.is_pause and one.begins <= now <= one.ends for one in self.spans)

    def stands_until(self, now: float) -> float:
        """When the last pause by an operator that is over by now may have ended; nothing expires before that."""
        return max((min(one.ends, now) for one in self.spans if one.is_pause), default=-1.0)

    def is_paused(self, now: float) -> bool:
        """By an operator, for sure."""
        return any(one.is_pause and one.sure_from < now < one.sure_until for one in self.spans)

    def left_least(self, now: float) -> float:
        return max((one.sure_until - now for one in self._holding(now, sure=True)), default=0.0)

    def left_most(self, now: float) -> float:
        """How long Retry-After may still hold."""
        return max((one.ends - now for one in self._holding(now, sure=False)), default=0.0)

    def may_have_ended(self, since: float, until: float) -> bool:
        """A Retry-After, by its time."""
        return any(not one.is_pause and one.sure_until <= until and one.ends >= since for one in self.spans)

    def stood_least(self, since: float, until: float) -> float:
        return _length([(max(one.sure_from, since), min(one.sure_until, one.ends, until)) for one in self.spans])

    def stood_most(self, since: float, until: float) -> float:
        return _length([(max(one.begins, since), min(one.ends, until)) for one in self.spans])

    def _holding(self, now: float, *, sure: bool) -> list[Standing]:
        holds = [one for one in self.spans if not one.is_pause]
        if sure:
            return [one for one in holds if one.sure_from < now < min(one.sure_until, one.ends)]
        return [one for one in holds if one.begins <= now <= one.ends]


def _length(spans: list[tuple[float, float]]) -> float:
    """Of all of them together, where they overlap once."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        if end > max(begin, reached):
            total += end - max(begin, reached)
            reached = end
    return total


@dataclass
class OldSecret:
    secret: str
    until_least: float
    until_most: float


@dataclass
class Secrets:
    """However a secret changes, the one before signs too for a while."""

    current: str = ""
    old: list[OldSecret] = field(default_factory=list)
    is_unsure: bool = False  # which one is in force: one that was given ran out meanwhile

    def change(self, secret: str, asked_at: float, now: float, overlap_seconds: float) -> None:
        """By rotate-secret, or by the configuration: its word counts."""
        if secret == self.current:
            return
        before = OldSecret(self.current, asked_at + overlap_seconds, now + overlap_seconds)
        self.old = [before, *(one for one in self.old if one.secret != secret and one.until_most >= asked_at)]
        self.old = self.old[:OLD_SECRETS_MAX]
        self.current = secret

    def put(self, secret: str, asked_at: float, now: float, overlap_seconds: float) -> None:
        """By a PUT: one that repeats a secret still in force changes nothing."""
        repeated = [one for one in self.old if one.secret == secret]
        if any(one.until_least > now for one in repeated):
            return
        self.is_unsure |= any(one.until_most >= asked_at for one in repeated)
        self.change(secret, asked_at, now, overlap_seconds)

    def may_sign(self, now: float) -> tuple[str, ...]:
        return (self.current, *(one.secret for one in self.old if one.until_most >= now))

    def must_sign(self, now: float) -> tuple[str, ...]:
        return (self.current, *(one.secret for one in self.old if one.until_least > now + 1e-6))
