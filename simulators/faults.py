"""The fault script: what may go wrong on a simulated wire, switched on and off while it runs.

The transport asks `transform` what to put on the wire for a reply, `on("drop")` whether to cut the
connection and `take("reboot")` whether to restart the instrument; the dialect asks `on("frozen")`,
`on("lie")` and `on("nan")` itself.
"""

from collections.abc import Iterable

FAULTS = {
    "silence": "no reply comes",
    "late": "replies come so many seconds late",
    "garbage": "replies are bytes that mean nothing",
    "half": "replies stop after this share of their bytes",
    "echo": "each reply comes after the command itself",
    "frozen": "the value never changes again",
    "reboot": "power-on state and a dropped connection, once",
    "lie": "commands are accepted and not obeyed",
    "nan": "the value is not a number",
    "drop": "the connection is cut, and each new one",
}
DEFAULTS = {"late": 2.0, "half": 0.5}


class Faults:
    """The faults that are on, each with its value.

    `active` maps names of `FAULTS` to values: seconds for "late", the share that arrives for
    "half", and any number for the others, where being on is all there is to say.
    """

    def __init__(self, active: dict[str, float] | None = None) -> None:
        self._active: dict[str, float] = {}
        for name, value in (active or {}).items():
            self.switch_on(name, value)

    @classmethod
    def from_words(cls, words: Iterable[str]) -> "Faults":
        """Read `NAME` or `NAME=VALUE`, as the command line's --fault states them."""
        faults = cls()
        for word in words:
            name, _, value = word.partition("=")
            try:
                number = float(value) if value else None
            except ValueError:
                raise ValueError(f"fault {word!r}: {value!r} is not a number") from None
            faults.switch_on(name, number)
        return faults

    @property
    def active(self) -> dict[str, float]:
        """The faults that are on, as a copy."""
        return dict(self._active)

    def switch_on(self, name: str, value: float | None = None) -> None:
        """Begin a fault; an unknown name or an impossible value is a ValueError."""
        if name not in FAULTS:
            raise ValueError(f"fault {name!r}: known are {', '.join(FAULTS)}")
        chosen = DEFAULTS.get(name, 1.0) if value is None else float(value)
        if name == "half" and not 0 <= chosen < 1:
            raise ValueError(f"fault half={chosen:g}: a share from 0 to below 1")
        if not 0 <= chosen < 1e6:
            raise ValueError(f"fault {name}={chosen:g}: from 0 to 1e6")
        self._active[name] = chosen

    def switch_off(self, name: str | None = None) -> None:
        """End one fault, or all."""
        if name is None:
            self._active.clear()
            return
        if name not in FAULTS:
            raise ValueError(f"fault {name!r}: known are {', '.join(FAULTS)}")
        self._active.pop(name, None)

    def on(self, name: str) -> bool:
        """Whether a fault is on."""
        if name not in FAULTS:
            raise ValueError(f"fault {name!r}: known are {', '.join(FAULTS)}")
        return name in self._active

    def value(self, name: str) -> float | None:
        """The value of a fault that is on, else None."""
        return self._active.get(name)

    def take(self, name: str) -> bool:
        """Whether a fault is on, and end it: for what happens once, as a reboot."""
        happening = self.on(name)
        self._active.pop(name, None)
        return happening

    def transform(self, reply: bytes, command: bytes = b"") -> list[tuple[float, bytes]]:
        """What really goes on the wire for `reply`: pairs of seconds to wait and bytes to send."""
        if "silence" in self._active or not reply:
            return []
        delay = self._active.get("late", 0.0)
        if "garbage" in self._active:
            reply = _garbage(reply)
        if "half" in self._active:
            reply = reply[: int(len(reply) * self._active["half"])]
        if "echo" in self._active and command:
            return [(delay, command), (0.0, reply)] if reply else [(delay, command)]
        return [(delay, reply)] if reply else []


def _garbage(reply: bytes) -> bytes:
    """Bytes of the same length that mean nothing, the line's end kept so that it is received."""
    body = reply.rstrip(b"\r\n")
    noise = bytes((byte * 73 + 41 * index) % 94 + 0x81 for index, byte in enumerate(body))
    return noise + reply[len(body) :]
