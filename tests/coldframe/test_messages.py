"""The words on the wire: canonical, strict, and unmoved by whatever arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldframe.errors import (
    BadRequest,
    ColdframeError,
    Disconnected,
    Interlocked,
    LinkError,
    OutOfRange,
    from_wire,
)
from coldframe.messages import (
    Array,
    Ask,
    Command,
    Event,
    Grant,
    Message,
    Reading,
    Register,
    Relay,
    Reply,
    Safe,
    Secured,
    SessionMark,
    StatusReport,
    control,
    decode,
    failure,
    header_of,
    new_id,
    plain,
    stream_kind,
    topic,
)

STAMP = {"name": "stage.temperature", "seq": 3, "t_ns": "1790000000123456789", "mono_ns": "42"}
READING = Reading(**STAMP, unit="K", value=88.15)


def test_a_reading_is_these_bytes_and_no_others() -> None:
    assert READING.encode() == (
        b'{"v":1,"name":"stage.temperature","seq":3,"session":null,"t_ns":"1790000000123456789",'
        b'"mono_ns":"42","unit":"K","quality":"good","value":88.15}'
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("reading", READING),
        ("frame", Array(**{**STAMP, "name": "camera"}, dtype="<u2", shape=(256, 256))),
        ("spectrum", Array(**{**STAMP, "name": "eds"}, dtype="<u4", shape=(2048,))),
        ("event", Event(**{**STAMP, "name": "guard"}, kind="tripped", text="IL-03")),
        ("status", StatusReport(**{**STAMP, "name": "stage"}, severity=100, words="holding")),
    ],
)
def test_a_stream_message_read_and_written_again_is_the_same_bytes(
    kind: str, message: Message
) -> None:
    data = message.encode()
    frame = topic(kind, message.name)  # type: ignore[arg-type, attr-defined]
    assert header_of(frame, data) == message
    assert header_of(frame, data).encode() == data


def test_a_topic_ends_in_a_space_so_that_no_name_begins_another() -> None:
    assert topic("reading", "beam.current") == b"reading beam.current "
    assert not topic("reading", "beam.current_limit").startswith(topic("reading", "beam.current"))
    assert stream_kind(b"frame camera ") == "frame"
    with pytest.raises(BadRequest, match="begins with none of reading, frame"):
        stream_kind(b"gossip camera ")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"id":"1","do":"get","nmae":"x"}', "nmae"),
        (b'{"id":"1"}', "do"),
        (b'{"id":1,"do":"get"}', "id"),
        (b'{"id":"1","do":"get","deadline_ms":0}', "deadline_ms"),
        (b'{"id":"1","do":"get","deadline_ms":1.5}', "deadline_ms"),
        (b'{"id":"1","do":"get","v":2}', "v"),
        (b"", "JSON"),
        (b"\x00\xff", "JSON"),
    ],
)
def test_a_command_that_is_wrong_says_which_field(data: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        decode(Command, data)


def test_nanoseconds_travel_as_text_and_keep_every_digit() -> None:
    assert int(decode(Reading, READING.encode()).t_ns) == 1790000000123456789
    with pytest.raises(BadRequest, match="t_ns"):
        decode(Reading, READING.encode().replace(b'"1790000000123456789"', b"1790000000123456789"))


def test_what_is_not_known_is_null_never_nan() -> None:
    assert [plain(x) for x in (float("nan"), float("inf"), -float("inf"), None)] == [None] * 4
    assert [plain(x) for x in (1, 2.5, True, "HIMP")] == [1, 2.5, True, "HIMP"]
    with pytest.raises(TypeError, match="list is not a value"):
        plain([1])
    with pytest.raises(BadRequest):
        decode(Reading, READING.encode().replace(b"88.15", b"NaN"))


def test_a_control_message_is_known_by_its_do() -> None:
    ask = Ask(device="beam", boot=new_id(), n=7, outputs=["beam"])
    assert control(ask.encode(), Grant, Ask) == ask
    with pytest.raises(BadRequest, match="'ask' has no meaning here"):
        control(ask.encode(), Grant, Safe)


def test_an_error_travels_and_is_the_same_class_at_the_other_end() -> None:
    reply = decode(
        Reply, failure("1", OutOfRange("bias.level: 7 V is outside -5 V … 5 V")).encode()
    )
    assert b'"class":"OutOfRange"' in reply.encode()
    assert reply.error is not None
    error = reply.error.exception()
    assert type(error) is OutOfRange
    assert str(error) == "bias.level: 7 V is outside -5 V … 5 V"


def test_which_errors_may_be_tried_again() -> None:
    assert failure("1", Disconnected("x")).error.retryable  # type: ignore[union-attr]
    assert not failure("1", Interlocked("x")).error.retryable  # type: ignore[union-attr]
    assert isinstance(from_wire("Silence", "x"), LinkError)
    assert type(from_wire("NeverHeardOf", "x")) is ColdframeError


SEEDS = [
    READING.encode(),
    Command(id="1", do="set", name="stage.setpoint", value=103.0, deadline_ms=2000).encode(),
    Reply(id="1", value={"a": [1, 2.5, None]}).encode(),
    failure("2", Interlocked("IL-03")).encode(),
    Ask(device="beam", boot="b", n=7, outputs=["beam"]).encode(),
    Relay(command=Command(id="1", do="call", name="beam.blank")).encode(),
    SessionMark(session="s").encode(),
]
MODELS = (Register, Ask, Grant, Safe, Secured, Relay, SessionMark)


def test_ten_thousand_mutations_are_understood_or_refused_with_a_typed_error() -> None:
    dice = random.Random(1)
    alphabet = b'{}[]":,.0123456789eE-+ \\untrfls\x00\xff'
    understood = 0
    for _ in range(10_000):
        data = bytearray(dice.choice(SEEDS))
        for _ in range(dice.randint(1, 5)):
            where = dice.randrange(len(data))
            new = bytes(dice.choice(alphabet) for _ in range(dice.randint(0, 4)))
            data[where : where + dice.randint(0, 4)] = new
        for parse in (
            lambda d: control(d, *MODELS),
            lambda d: decode(Command, d),
            lambda d: decode(Reply, d),
            lambda d: header_of(b"reading stage.temperature ", d),
        ):
            try:
                parsed = parse(bytes(data))
            except BadRequest as error:
                assert len(str(error)) < 2000
            else:
                understood += 1
                assert decode(type(parsed), parsed.encode()) == parsed
    assert understood > 100


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_bad_request(data: bytes) -> None:
    for parse in (lambda: control(data, *MODELS), lambda: header_of(data, data)):
        try:
            parse()
        except BadRequest:
            pass


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 500_000])
def test_depth_and_length_do_not_break_the_parser(data: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(Command, data)
