"""The words on the wire: every message Coldframe sends or takes, as a strict pydantic model.

Two shapes travel. A *control* message is one frame of JSON. A *stream* message is
`[topic] [JSON header]` and, for arrays, `[raw little-endian bytes]`. JSON is canonical (the order
of the model, no spaces), so the same content is always the same bytes, live and in replay. Integers
of nanoseconds travel as strings, because a double would lose them. There is no NaN: what is not
known is `null` with a quality.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from coldframe.errors import BadRequest, ColdframeError, from_wire

VERSION = 1
HUB_PORT, STREAM_PORT, GUARD_PORT = 5750, 5751, 5752  # 5753 is kept for the lossless lane

Scalar: TypeAlias = bool | int | float | str | None
Nanoseconds = Annotated[str, Field(pattern=r"^-?\d{1,20}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$", max_length=100)]
DeviceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=50)]
Quality = Literal["good", "stale", "bad", "simulated"]
Hazard = Literal["safe", "neutral", "hazardous"]
StreamKind = Literal["reading", "frame", "spectrum", "event", "status"]
Verb = Literal[
    "describe", "get", "set", "call", "snapshot", "run", "pause", "resume", "abort", "ack",
    "reset", "enable", "bypass", "record", "lease", "register", "replay",
]  # fmt: skip


class Message(BaseModel):
    """Frozen, strict, nothing unknown, nothing infinite."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return self.model_dump_json().encode()


M = TypeVar("M", bound=Message)


def decode(model: type[M], data: bytes) -> M:
    """Parse `data` as `model`, or raise `BadRequest` that says which field is wrong."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise BadRequest(f"{model.__name__}: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{model.__name__}: not JSON: {error}") from None


def new_id() -> str:
    """A fresh id for a command, a boot or a session."""
    return os.urandom(8).hex()


# ---- streams ------------------------------------------------------------------------------


class Header(Message):
    """What every stream message begins with; `seq` counts one stream of one boot without gaps."""

    v: Literal[1] = 1
    name: Name
    seq: int
    session: str | None = None
    t_ns: Nanoseconds
    mono_ns: Nanoseconds
    unit: str = ""
    quality: Quality = "good"


class Reading(Header):
    """One value of one parameter; `null` when it is not known, and then never `good`."""

    value: Scalar = None


class Array(Header):
    """The header of a frame or a spectrum; the bytes follow in a frame of their own."""

    dtype: str
    shape: tuple[int, ...] = Field(strict=False)
    details: dict[str, Scalar] = Field(default_factory=dict)


class Event(Header):
    """Something that happened: a trip, a command, a note, a change of clock."""

    kind: str
    text: str
    details: dict[str, JsonValue] = Field(default_factory=dict)


class StatusReport(Header):
    """How a device is (`coldframe.status`)."""

    severity: int
    words: str


_HEADERS: dict[str, type[Header]] = {
    "reading": Reading,
    "frame": Array,
    "spectrum": Array,
    "event": Event,
    "status": StatusReport,
}


def topic(kind: StreamKind, name: str) -> bytes:
    """The topic of a stream; the trailing space keeps `beam.current` off `beam.current_limit`."""
    return f"{kind} {name} ".encode()


def stream_kind(topic_frame: bytes) -> str:
    """`reading`, `frame`, … of a topic; raises `BadRequest` for anything else."""
    kind = topic_frame.split(b" ", 1)[0].decode("ascii", "replace")
    if kind not in _HEADERS:
        raise BadRequest(f"topic {topic_frame[:80]!r}: begins with none of {', '.join(_HEADERS)}")
    return kind


def header_of(topic_frame: bytes, data: bytes) -> Header:
    """The parsed header of a stream message."""
    return decode(_HEADERS[stream_kind(topic_frame)], data)


# ---- what a device says it is -------------------------------------------------------------

Kind = Literal["float", "int", "bool", "str"]


class ParameterInfo(Message):
    """One named quantity of a device."""

    name: str
    kind: Kind
    unit: str = ""
    writable: bool = False
    poll: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: list[Scalar] | None = None
    hazard: Hazard = "hazardous"
    safe_values: list[Scalar] = Field(default_factory=list)
    output: str | None = None
    doc: str = ""


class ArgumentInfo(Message):
    """One argument of a command."""

    kind: Kind
    required: bool = True
    default: Scalar = None
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class CommandInfo(Message):
    """One verb of a device."""

    name: str
    hazard: Hazard = "hazardous"
    output: str | None = None
    arguments: dict[str, ArgumentInfo] = Field(default_factory=dict)
    doc: str = ""


class OutputInfo(Message):
    """Something the device can put on: its safe state, how fast it gets there, its dead-man."""

    name: str
    safe_state: str
    seconds: float
    fast_blank: bool | None = None


class StreamInfo(Message):
    """The arrays a device sends; the stream has the device's name."""

    kind: Literal["frame", "spectrum"]
    dtype: str
    shape: list[int]
    unit: str = "counts"
    axes: dict[str, float] = Field(default_factory=dict)


class DeviceInfo(Message):
    """A host's first message about a device, and what `describe` answers."""

    device: DeviceName
    model: str
    role: str
    identity: str
    simulated: bool
    boot: str
    pid: int
    parameters: list[ParameterInfo] = Field(default_factory=list)
    commands: list[CommandInfo] = Field(default_factory=list)
    outputs: list[OutputInfo] = Field(default_factory=list)
    stream: StreamInfo | None = None

    def named(self) -> dict[str, ParameterInfo]:
        """The parameters by full name. A name with a dot is whole already: the dose rate is the
        beam's, though the guard works it out."""
        return {
            each.name if "." in each.name else f"{self.device}.{each.name}": each
            for each in self.parameters
        }


# ---- commands -----------------------------------------------------------------------------


class Command(Message):
    """What a client asks. `by` is written by the hub, never believed of a client."""

    v: Literal[1] = 1
    id: str = Field(min_length=1, max_length=64)
    do: Verb
    name: str = Field(default="", max_length=100)
    value: JsonValue = None
    args: dict[str, JsonValue] = Field(default_factory=dict)
    deadline_ms: int | None = Field(default=None, ge=1, le=3_600_000)
    lease: str | None = None
    by: str | None = None


class WireError(Message):
    """An error as it travels; `class` names one of `coldframe.errors`."""

    model_config = ConfigDict(populate_by_name=True)

    kind: str = Field(alias="class")
    text: str
    retryable: bool = False

    def exception(self) -> ColdframeError:
        return from_wire(self.kind, self.text)


class Reply(Message):
    """The answer to the command of the same id: a value, or an error."""

    v: Literal[1] = 1
    id: str
    value: JsonValue = None
    error: WireError | None = None

    def encode(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()


def failure(command_id: str, error: ColdframeError) -> Reply:
    """The reply that carries `error`."""
    wire = WireError(kind=error.kind, text=str(error), retryable=error.retryable)
    return Reply(id=command_id, error=wire)


# ---- inside the service -------------------------------------------------------------------


class Register(Message):
    """Host → guard, hub, recorder, and guard → hub, recorder: I am here."""

    do: Literal["register"] = "register"
    info: DeviceInfo


class Registered(Message):
    """The answer: agreed with the configuration, or the reason why not."""

    do: Literal["registered"] = "registered"
    boot: str
    error: str | None = None


class Ask(Message):
    """Host → guard, every 100 ms, from the loop that does the wire's work."""

    do: Literal["ask"] = "ask"
    device: DeviceName
    boot: str
    n: int
    outputs: list[str] = Field(default_factory=list)


class Grant(Message):
    """Guard → host: these outputs may be on until 500 ms after ask `n` was sent."""

    do: Literal["grant"] = "grant"
    boot: str
    n: int
    granted: list[str] = Field(default_factory=list)


class Safe(Message):
    """Guard → host: drive the safe state now. Pre-empts whatever waits for the wire."""

    do: Literal["safe"] = "safe"
    id: str
    why: str


class Secured(Message):
    """Host or last hand → guard: what came of a `safe`."""

    do: Literal["secured"] = "secured"
    id: str
    device: DeviceName
    verified: bool
    words: str
    mono_ns: Nanoseconds
    leaving: bool = False  # the host ends with this: nothing is on, nobody need look again


class Watch(Message):
    """Guard → last hand: this process serves this device."""

    do: Literal["watch"] = "watch"
    device: DeviceName
    pid: int
    boot: str


class Watching(Message):
    """Last hand → guard, twice a second: I am here, and these boots are what I watch."""

    do: Literal["watching"] = "watching"
    boots: list[str] = Field(default_factory=list)


class Takeover(Message):
    """Guard → last hand: this host's own asks have stopped; end it, then make its device safe."""

    do: Literal["takeover"] = "takeover"
    device: DeviceName
    boot: str
    why: str


class Left(Message):
    """Guard → last hand: this host made safe, verified, and ends; its death asks for nothing."""

    do: Literal["left"] = "left"
    device: DeviceName
    boot: str


class Relay(Message):
    """A command on its way: hub → guard, recorder, service or host; if hazardous, guard → host."""

    do: Literal["command"] = "command"
    command: Command


class Answer(Message):
    """Host, guard, recorder or service → hub: the reply to a relayed command."""

    do: Literal["answer"] = "answer"
    reply: Reply


class SessionMark(Message):
    """Recorder → host, guard, hub: stamp this session from here on (`null`: none)."""

    do: Literal["session"] = "session"
    session: str | None


class SessionMarked(Message):
    """The answer: done; `next` is the sequence number each stream continues with."""

    do: Literal["marked"] = "marked"
    device: DeviceName
    session: str | None
    next: dict[str, int]


def control(data: bytes, *models: type[Message]) -> Message:
    """Parse a control message as whichever of `models` its `do` names."""
    try:
        do = _Do.model_validate_json(data).do
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not a message: {str(error).splitlines()[0]}") from None
    for model in models:
        if model.model_fields["do"].default == do:
            return decode(model, data)
    raise BadRequest(f"do: {do!r} has no meaning here")


class _Do(BaseModel):
    do: str


def plain(value: Any) -> Scalar:
    """A driver's value as it may travel: NaN and infinities become None."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is not a value of a parameter")
