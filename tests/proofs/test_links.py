"""Proof by many conversations: no late, lost or cut answer is ever taken for another's.

An instrument that answers in order is asked numbered questions in a time of its own, which costs
nothing, over a wire that is slow (answers up to four seconds late), or lossy (answers cut at any
byte, or lost), or both, the lateness then within the link's patience. Beyond that a wire without
numbers cannot tell a lost answer from a late one, and nothing is claimed. `make prove-links` makes
it long; a failure names its seed, and `COLDFRAME_SEED=…` plays that conversation again.
"""

from __future__ import annotations

import heapq
import os
import random
from dataclasses import dataclass, field

import pytest

from coldframe.drivers import links
from coldframe.drivers.links import Dialect, LineLink
from coldframe.errors import LinkError

CONVERSATIONS = int(os.environ.get("COLDFRAME_PROVE", "300"))
ONE_SEED = os.environ.get("COLDFRAME_SEED")
QUESTIONS = 40  # of one conversation
LATE = (0.2, 0.3, 0.6, 1.5, 4.0)  # s
NEVER = 5.0  # s; later than that no answer comes here
PATIENCE = 0.45  # s; a little less than the link's
IDENTITY = "ACME,THERMO,7,1.0"
DIALECT = Dialect(timeout=0.25)


@dataclass
class Time:
    """Seconds that pass when somebody waits."""

    now: float = 0.0

    def monotonic(self) -> float:
        self.now += 1e-6  # looking at it takes a moment, so that every loop ends
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class BadWire:
    """An instrument that answers `Q n` with `A n`, in order, and a wire that may not deliver."""

    time: Time
    random: random.Random
    late: float  # the chance that an answer is late
    lossy: float  # the chance that it is cut or lost
    latest: float  # s
    arriving: list[tuple[float, int, bytes]] = field(default_factory=list)
    free_at: float = 0.0  # the instrument answers one question after the other
    count: int = 0

    def write(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            answer = IDENTITY if line == "*IDN?" else line.replace("Q", "A")
            takes = self.random.uniform(0.001, 0.02)
            if self.random.random() < self.late:
                takes += self.random.choice(LATE)
            self.free_at = max(self.free_at, self.time.now) + takes
            self.free_at = min(self.free_at, self.time.now + self.latest)
            sent = f"{answer}\n".encode()
            if self.random.random() < self.lossy:
                sent = sent[: self.random.randrange(len(sent))]  # cut; 0: lost altogether
            if sent:
                self.count += 1
                heapq.heappush(self.arriving, (self.free_at, self.count, sent))

    def read(self, timeout: float) -> bytes:
        until = self.time.now + max(0.0, timeout)
        if not self.arriving or self.arriving[0][0] > until:
            self.time.now = until
            return b""
        at, _, sent = heapq.heappop(self.arriving)
        self.time.now = max(self.time.now, at)
        split = self.random.randrange(1, len(sent) + 1)  # it may come in two pieces
        if sent[split:]:
            heapq.heappush(self.arriving, (self.time.now, 0, sent[split:]))
        return sent[:split]

    def close(self) -> None: ...


def wire_of(kind: str, time: Time, chance: random.Random) -> BadWire:
    badness = chance.choice([0.05, 0.2, 0.5, 0.9])
    late = 0.0 if kind == "lossy" else badness
    lossy = 0.0 if kind == "slow" else badness
    return BadWire(time, chance, late, lossy, latest=PATIENCE if lossy else NEVER - 0.5)


def converse(seed: int, time: Time) -> tuple[int, int]:
    """One conversation; how many answers were whole, and how many errors."""
    chance = random.Random(seed)
    wire = wire_of(chance.choice(["slow", "lossy", "both"]), time, chance)
    link = LineLink(wire, DIALECT)
    whole = failed = 0
    for number in range(QUESTIONS):
        try:
            answer = link.ask(f"Q{number}")
        except LinkError:
            failed += 1
        else:
            assert answer == f"A{number}", f"seed {seed}: Q{number} was answered by {answer!r}"
            whole += 1
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 2))
    # and once the wire is well and nothing old can come any more, so is the link
    wire.late = wire.lossy = 0.0
    time.sleep(NEVER)
    assert link.ask("Q99") == "A99", f"seed {seed}: still out of step"
    return whole, failed


def test_no_answer_is_ever_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr(links, "time", time)
    first = int(ONE_SEED) if ONE_SEED else random.SystemRandom().randrange(10**9)
    seeds = range(first, first + (1 if ONE_SEED else CONVERSATIONS))

    results = [converse(seed, time) for seed in seeds]

    whole, failed = (sum(column) for column in zip(*results, strict=True))
    print(
        f"{len(results)} conversations, {time.now / 3600:.1f} h of a bad wire: {whole} whole "
        f"answers, {failed} errors, no wrong answer"
    )
    assert ONE_SEED or (whole > 10 * len(results) and failed > len(results))


def test_the_proof_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr(links, "time", time)
    monkeypatch.setattr(LineLink, "_fall_into_step", lambda link: setattr(link, "_in_step", True))
    monkeypatch.setattr(LineLink, "_quiet", lambda link: True)

    with pytest.raises(AssertionError, match="was answered by"):
        for seed in range(50):
            converse(seed, time)
