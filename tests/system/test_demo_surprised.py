"""The demonstration where an answer comes too late, as on a busy machine: it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coldframe.daemon import demo
from coldframe.daemon.demo import OUTPUTS, Story
from coldframe.daemon.show import Out
from coldframe.daemon.simulation import TruthPort
from tests.system.running import RunningLab, wait_for

pytestmark = pytest.mark.timeout(300)


class Surprise(Out):
    """Prints nothing for people, and once silences the thermometer while a bias is on."""

    def __init__(self, lab: RunningLab):
        super().__init__(as_json=True)
        self.said: list[str] = []
        self._lab, self._over = lab, False

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def progress(self, title: str) -> Iterator[object]:
        yield self._silence if title.startswith("-2 V") else lambda fraction, words: None

    def _silence(self, fraction: float | None, words: str) -> None:
        if not self._over:
            self._over = True
            self._lab.fault("stage", "silence")
            wait_for(lambda: "IL-22" in self._lab.tripped(), 20, "a silent thermometer trips")
            self._lab.fault("stage", "silence", None)


def test_a_trip_that_was_not_planned_is_told_and_the_particle_biased_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "EXPECTED", {"particle_10nm": 1.2})
    monkeypatch.setattr(demo, "ATTEMPTS", 6)  # this machine may be busy for itself
    with RunningLab() as lab:
        lab.start()
        out = Surprise(lab)
        lab.arm(*OUTPUTS)
        with lab.client() as client, TruthPort(lab.run_folder) as truth:
            client.call("guard.specimen_mode", mode="none")
            client.set("camera.frames", 0)  # until it is stopped
            client.run("calibrate_dose")
            story = Story(client, truth, out, speed=1)
            story.act_two()

    told = [text for text in out.said if "Not planned" in text]  # others, if this machine is busy
    assert any("IL-22" in text and "bias.output went off" in text for text in told)
    assert story.measured["particle_10nm"]["area_ratio"] == pytest.approx(1.2, abs=0.03)
