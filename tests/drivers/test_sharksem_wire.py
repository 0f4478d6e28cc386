"""SharkSEM's binary messages: there and back, cut at every byte, and made of rubbish."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe.drivers.sharksem_wire import (
    BODY_LIMIT,
    HEADER,
    Fields,
    Message,
    SharkLink,
    encode,
    pack,
    take,
)
from coldframe.errors import Disconnected, Garbled, Silence
from coldframe.simulators import sharksem as simulated

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
names = st.text(ALPHABET, min_size=1, max_size=16)
unhurried = settings(deadline=None)  # this machine may be busy
u32 = st.integers(0, 2**32 - 1)
messages = st.builds(Message, names, u32, st.integers(0, 0xFFFF), st.binary(max_size=200))
texts = st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=60)
integers = st.integers(-(2**31), 2**31 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)


@unhurried
@given(messages, st.binary(max_size=40))
def test_a_message_comes_back_as_it_went(message: Message, behind: bytes) -> None:
    assert take(encode(message) + behind) == (message, behind)


@unhurried
@given(messages)
def test_a_message_cut_anywhere_is_not_yet_one(message: Message) -> None:
    whole = encode(message)
    for end in range(len(whole)):
        assert take(whole[:end]) is None


@unhurried
@given(st.binary(max_size=300))
def test_rubbish_is_garbled_or_not_yet_whole(data: bytes) -> None:
    try:
        found = take(data)
    except Garbled:
        return
    if found is not None:
        assert encode(found[0])[:16] == data[:16]


@unhurried
@given(messages, u32)
def test_an_impossible_size_is_refused_at_once(message: Message, size: int) -> None:
    header = bytearray(encode(message)[: HEADER.size])
    struct.pack_into("<I", header, 16, size)
    if size > BODY_LIMIT:
        with pytest.raises(Garbled, match=f"announces {size} bytes"):
            take(bytes(header))


@unhurried
@given(st.lists(st.one_of(integers, texts, floats), max_size=8))
def test_fields_come_back_as_they_went(values: list[int | str | float]) -> None:
    body = pack(*values)
    assert len(body) % 4 == 0
    fields = Fields(body, "test")
    for value in values:
        if isinstance(value, int):
            assert fields.integer() == value
        elif isinstance(value, str):
            assert fields.text() == value
        else:
            assert fields.number() == value


@unhurried
@given(st.one_of(integers, texts, floats))
def test_a_body_cut_anywhere_is_garbled(value: int | str | float) -> None:
    body = pack(value)
    last = len(body)
    if not isinstance(value, int):  # the padding alone may be missing
        last = 4 + struct.unpack("<I", body[:4])[0]
    for end in range(last):
        fields = Fields(body[:end], "test")
        read = fields.integer if isinstance(value, int) else fields.text
        with pytest.raises(Garbled):
            read()


@unhurried
@given(st.binary(max_size=64))
def test_a_body_of_rubbish_is_a_value_or_garbled(body: bytes) -> None:
    for read in (Fields.integer, Fields.text, Fields.number):
        try:
            read(Fields(body, "test"))
        except Garbled:
            pass


@unhurried
@given(texts, integers)
def test_both_sides_of_the_wire_agree(text: str, integer: int) -> None:
    body = simulated.Body(pack(text, integer))
    assert (body.text(), body.integer()) == (text, integer)
    fields = Fields(simulated.text(text) + simulated.integer(integer), "test")
    assert (fields.text(), fields.integer()) == (text, integer)


def test_the_bytes_are_those_of_the_format() -> None:
    assert pack(3.14159) == b"\x08\0\0\0" + b"3.14159\0"
    assert encode(Message("TcpGetVersion", 7, 1, b"")) == (
        b"TcpGetVersion\0\0\0" + bytes.fromhex("00000000 07000000 0100 0000 00000000")
    )


def test_rubbish_behind_the_end_of_a_text_is_left() -> None:
    assert Fields(b"\x0c\0\0\0" + b"2.0.22\0junk!", "TcpGetVersion").text() == "2.0.22"


def test_a_name_has_at_most_sixteen_characters() -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        encode(Message("N" * 17, 1, 0, b""))


class Script:
    """A wire that answers each message with prepared bytes; `{n}` is its number."""

    def __init__(self, *answers: bytes):
        self._answers, self._ready = list(answers), b""
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        if self._answers:
            self._ready += self._answers.pop(0)

    def read(self, timeout: float) -> bytes:
        data, self._ready = self._ready, b""
        return data

    def close(self) -> None:
        pass


def answer(name: str, number: int, *fields: int | float | str) -> bytes:
    return encode(Message(name, number, 0, pack(*fields)))


def test_an_answer_to_an_earlier_question_is_thrown_away() -> None:
    link = SharkLink(Script(b"", answer("A", 1, 11) + answer("A", 2, 22)), timeout=0.01)
    with pytest.raises(Silence):
        link.ask("A")
    assert link.ask("A").integer() == 22


def test_our_own_words_are_no_answer() -> None:
    echo = encode(Message("ScGetBlanker", 1, 1, pack(1)))
    link = SharkLink(Script(echo + answer("ScGetBlanker", 1, 2)), timeout=0.01)
    assert link.ask("ScGetBlanker", 1).integer() == 2


def test_an_answer_by_another_name_breaks_the_link() -> None:
    link = SharkLink(Script(answer("B", 1, 11)), timeout=0.01)
    with pytest.raises(Garbled, match="A was answered by B"):
        link.ask("A")
    with pytest.raises(Disconnected, match="opened anew"):
        link.ask("A")


def test_after_half_an_answer_nothing_is_believed() -> None:
    whole = answer("A", 1, 11)
    for end in range(1, len(whole)):
        link = SharkLink(Script(whole[:end], answer("A", 2, 22)), timeout=0.001)
        with pytest.raises(Silence):
            link.ask("A")
        with pytest.raises(Disconnected):
            link.ask("A")


def test_a_flood_of_other_messages_ends() -> None:
    link = SharkLink(Script(answer("GuiEvent", 0, 1) * 2000), timeout=1)
    with pytest.raises(Garbled, match="none is the answer"):
        link.ask("A")


def test_an_order_asks_for_no_answer() -> None:
    wire = Script()
    SharkLink(wire).tell("FibHVBeamOff")
    assert wire.sent == [encode(Message("FibHVBeamOff", 1, 0, b""))]
