"""The codec of MPX messages: what is whole is read as it was sent, the rest is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe.drivers.merlin_wire import (
    cut_at,
    decode_frame,
    layout_of,
    length_of,
    reply_fields,
    request,
)
from coldframe.errors import Garbled

NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20)
# as captured from LiberTEM-live's server
CAPTURED = (
    b"MQ1,000001,00384,01,0256,0256,U16,   1x1,01,2020-05-18 16:51:49.971626,0.001000,0,0,0,"
    b"1.200000E+2,5.110000E+2,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,"
    b"0.000000E+0,3RX,175,511,000,000,000,000,000,000,100,255,100,125,100,100,082,100,087,030,"
    b"128,004,255,129,128,176,168,511,511,MQ1A,2020-05-18T14:51:49.971626178Z,1000000ns,12,"
).ljust(384, b"\0")


def body_of(pixels: np.ndarray, number: int, dtype: str, offset: int = 384) -> bytes:
    rows, columns = pixels.shape
    head = f"MQ1,{number:06d},{offset:05d},01,{columns:04d},{rows:04d},{dtype},   1x1,01,T,0.25,"
    big = {"U08": ">u1", "U16": ">u2", "U32": ">u4"}[dtype]
    return head.encode().ljust(offset, b"\0") + pixels.astype(big).tobytes()


def test_a_captured_header_is_understood():
    pixels = np.arange(65536, dtype=">u2")
    frame = decode_frame(CAPTURED + pixels.tobytes())
    assert (frame.number, frame.exposure_s) == (1, pytest.approx(0.001))
    assert frame.device_time == "2020-05-18T14:51:49.971626178Z"
    assert frame.data.dtype.str == "<u2"
    assert frame.data.shape == (256, 256)
    assert frame.data.ravel().tolist() == list(range(65536))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("U08", 8, "<u2"), ("U16", 16, "<u2"), ("U32", 32, "<u4")]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 9_999_999),
    st.sampled_from([128, 384, 768]),
    st.data(),
)
def test_every_pixel_comes_back(kind, rows, columns, number, offset, data):
    name, bits, wanted = kind
    values = data.draw(
        st.lists(st.integers(0, 2**bits - 1), min_size=rows * columns, max_size=rows * columns)
    )
    pixels = np.array(values, dtype=np.uint64).reshape(rows, columns)
    frame = decode_frame(body_of(pixels, number, name, offset))
    assert frame.data.dtype.str == wanted
    assert frame.data.tolist() == pixels.tolist()
    assert (frame.number, frame.exposure_s, frame.device_time) == (number, 0.25, "T")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_that_mean_nothing_are_garbled_and_nothing_else(noise):
    for body in (noise, b"MQ1," + noise, CAPTURED[:-40] + noise):
        with pytest.raises(Garbled):
            decode_frame(body)


def test_a_frame_shorter_or_longer_than_its_header_says_is_refused():
    whole = body_of(np.ones((4, 4)), 3, "U16")
    for length in (*range(64, len(whole)), len(whole) + 1):
        with pytest.raises(Garbled):
            decode_frame((whole + b"\0")[:length])


@pytest.mark.parametrize(
    "header",
    [
        b"MQ1,000001,00384,01,0256,0256,R64,",
        b"MQ1,000001,00384,01,9999,0256,U16,",
        b"MQ1,000001,00000,01,0256,0256,U16,",
        b"MQ1,-00001,00384,01,0256,0256,U16,",
        b"MQ1,000001,nonsense",
        b"HDR,000001,00384,01,0256,0256,U16,",
    ],
)
def test_headers_that_make_no_sense_are_refused(header):
    with pytest.raises(Garbled):
        layout_of(header.ljust(384, b"\0"))


@given(st.sampled_from(["GET", "SET", "CMD"]), NAMES, st.none() | NAMES)
def test_the_length_of_a_request_counts_the_comma(verb, name, value):
    message = request(verb, name, value)
    assert length_of(message[:15]) == len(message) - 14
    assert message[15:] == ",".join(filter(None, [verb, name, value])).encode()


@given(st.binary(min_size=15, max_size=15))
def test_a_prefix_is_a_prefix_or_none(prefix):
    length = length_of(prefix)
    assert length is None or prefix == b"MPX,%010d," % length


def test_only_the_reply_to_the_question_is_a_reply():
    assert reply_fields(b"GET,HVBIAS,120,0", "GET", "HVBIAS") == ("120", 0)
    assert reply_fields(b"SET,HVBIAS,3", "SET", "HVBIAS") == ("", 3)
    for other in (b"GET,GAIN,1,0", b"GET,HVBIAS", b"SET,HVBIAS,0", b"GET,HVBIAS,120,", b"", b"\xff",
                  b"GET,HVBIAS,120,9", b"GET,HVBIAS,1,2,0", b"GET,HVBIAS,120,01"):  # fmt: skip
        with pytest.raises(Garbled):
            reply_fields(other, "GET", "HVBIAS")


@given(st.integers(1, 40), st.binary(min_size=5, max_size=60))
def test_a_message_that_begins_inside_another_is_found(offset, follows):
    body = b"\1" * offset + b"MPX,0000131457,MQ1," + follows
    assert cut_at(body) == (offset, True)


@given(st.integers(1, 18))
def test_the_beginning_of_a_message_at_the_very_end_is_suspicious(count):
    start = b"MPX,0000131457,MQ1"[:count]
    assert cut_at(b"\1" * 400 + start) == (400, False)
