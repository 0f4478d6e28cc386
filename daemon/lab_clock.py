"""The clock of a simulated laboratory as a device that anybody may ask, and set: `clock.speed`."""

from __future__ import annotations

from coldframe.clock import Clock, SharedClock
from coldframe.daemon.stamps import Frames, Stamps
from coldframe.errors import ReadOnly
from coldframe.messages import Command, DeviceInfo, ParameterInfo, new_id

NAME = "clock.speed"


class LabClock:
    """Reads and sets the shared clock; each change is an event and a reading."""

    def __init__(self, clock: Clock, lab: str, stamps: Stamps):
        self._clock, self._lab, self._stamps = clock, lab, stamps

    def info(self) -> DeviceInfo:
        """How the clock registers."""
        speed = ParameterInfo(
            name="speed",
            kind="float",
            writable=True,
            minimum=0.001,
            maximum=10_000,
            hazard="neutral",
            doc="Lab seconds in one second of the wall clock; this laboratory is simulated.",
        )
        return DeviceInfo(
            device="clock",
            model="clock",
            role="Clock",
            identity=self._lab,
            simulated=True,
            boot=new_id(),
            pid=0,
            parameters=[speed],
        )

    def reading(self) -> Frames:
        """The speed as a reading."""
        return self._stamps.reading(NAME, self._clock.speed)

    def obey(self, command: Command) -> tuple[float, list[Frames]]:
        """Carry out a checked `get` or `set`; the answer, and what is to be published."""
        if command.do == "get":
            return self._clock.speed, []
        if not isinstance(self._clock, SharedClock) or not self._stamps.simulated:
            raise ReadOnly(f"{NAME}: only an all-simulated laboratory has a clock to set")
        assert isinstance(command.value, int | float)  # the check before saw to it
        new = self._clock.set_speed(float(command.value))
        event = self._stamps.event(
            "clock",
            f"lab time runs {new.speed:g} times as fast as the wall clock",
            name="clock",
            speed=new.speed,
            lab0_ns=str(new.lab0_ns),
            mono0_ns=str(new.mono0_ns),
        )
        return new.speed, [event, self.reading()]
