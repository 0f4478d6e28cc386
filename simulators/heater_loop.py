"""A control loop of a temperature controller: setpoint ramp, PID law, manual output."""

from __future__ import annotations

from dataclasses import dataclass

FULL = 100.0  # % of the heater's range


@dataclass
class HeaterLoop:
    """One output's loop, moved by `step`; Output = P [e + (I/1000) ∫e dt + D de/dt] + manual, in %
    (336 manual 2.7). The integral stands still while the output is at an end of its range and the
    error would drive it further."""

    setpoint: float  # where the control is now; while ramping it moves towards `target`
    target: float
    integral: float = 0.0  # K s
    last_error: float | None = None
    percent: float = 0.0

    @property
    def ramping(self) -> bool:
        return self.setpoint != self.target

    def aim(self, target: float, ramp: bool) -> None:
        """A new setpoint: taken at once, or approached from where the control is now."""
        self.target = target
        if not ramp:
            self.setpoint = target

    def stand(self) -> None:
        """The ramp ends where it is."""
        self.target = self.setpoint

    def follow(self, rate: float, dt: float) -> bool:
        """Move the setpoint by `dt` seconds at `rate` K/min (0: at once); True when it arrives."""
        if not self.ramping:
            return False
        most = rate / 60 * dt if rate > 0 else float("inf")
        left = self.target - self.setpoint
        if abs(left) <= most:
            self.setpoint = self.target
            return True
        self.setpoint += most if left > 0 else -most
        return False

    def control(
        self, reading: float, pid: tuple[float, float, float], manual: float, dt: float
    ) -> None:
        """Work out the output from one reading of the sensor."""
        p, i, d = pid
        error = self.setpoint - reading
        slope = 0.0 if self.last_error is None or dt <= 0 else (error - self.last_error) / dt
        self.last_error = error
        wanted = self.integral + error * dt
        output = p * (error + i / 1000 * wanted + d * slope) + manual
        if 0 <= output <= FULL or (output < 0) == (error > 0):
            self.integral = wanted
        self.percent = min(max(output, 0.0), FULL)

    def rest(self, percent: float = 0.0) -> None:
        """No control: a fixed output, and nothing remembered."""
        self.percent = min(max(percent, 0.0), FULL)
        self.integral, self.last_error = 0.0, None
