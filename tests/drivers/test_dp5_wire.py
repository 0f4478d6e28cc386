"""The codec of Amptek packets: what is whole is read as it was sent, the rest is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe.drivers import dp5_wire as dp5
from coldframe.errors import Garbled

BYTE = st.integers(0, 255)


@given(BYTE, BYTE, st.binary(max_size=300))
def test_every_packet_comes_back_whole(pid1, pid2, data):
    assert dp5.decode(dp5.encode((pid1, pid2), data)) == (pid1, pid2, data)


def test_the_guides_own_request_has_the_guides_checksum():
    assert dp5.encode(dp5.REQUEST_SPECTRUM).hex(" ") == "f5 fa 02 03 00 00 fe 0c"


@given(BYTE, BYTE, st.binary(max_size=60), st.data())
def test_a_packet_cut_anywhere_is_not_a_packet(pid1, pid2, data, draw):
    whole = dp5.encode((pid1, pid2), data)
    cut = draw.draw(st.integers(0, len(whole) - 1))
    assert dp5.missing(whole[:cut]) > 0
    with pytest.raises(Garbled):
        dp5.decode(whole[:cut])
    with pytest.raises(Garbled):
        dp5.decode(whole + whole[:1])


@given(BYTE, BYTE, st.binary(max_size=60), st.data())
def test_one_wrong_byte_is_noticed(pid1, pid2, data, draw):
    whole = bytearray(dp5.encode((pid1, pid2), data))
    whole[draw.draw(st.integers(0, len(whole) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(Garbled):
        dp5.decode(bytes(whole))


@given(st.binary(min_size=8, max_size=80))
def test_bytes_that_mean_nothing_are_garbled_and_nothing_else(noise):
    with pytest.raises(Garbled):
        dp5.decode(noise)


@settings(deadline=None)
@given(st.sampled_from([256, 512, 1024, 2048, 4096, 8192]), st.booleans(), st.integers(0, 2**32))
def test_every_count_comes_back(channels, with_status, seed):
    counts = np.random.default_rng(seed).integers(0, 2**24, channels, dtype=np.uint32)
    data = b"".join(int(c).to_bytes(3, "little") for c in counts) + bytes(64 * with_status)
    pid2 = 2 * [256, 512, 1024, 2048, 4096, 8192].index(channels) + 1 + with_status
    read = dp5.counts_of(dp5.Packet(0x81, pid2, data))
    assert read.dtype.str == "<u4"
    assert read.tolist() == counts.tolist()
    for broken in (data[:-1], data + b"\0"):
        with pytest.raises(Garbled):
            dp5.counts_of(dp5.Packet(0x81, pid2, broken))


def test_the_status_block_is_read_byte_by_byte():
    raw = bytearray(64)
    struct.pack_into("<II", raw, 0, 70000, 65000)
    raw[12:16] = bytes([42, 0x10, 0x27, 0x00])  # 42 ms and 10000 * 0.1 s
    struct.pack_into("<I", raw, 20, 1_234_567)
    raw[24], raw[25], raw[37], raw[39] = 0x68, 0x61, 0x16, 0
    struct.pack_into("<I", raw, 26, 12345)
    struct.pack_into(">h", raw, 30, -260)
    struct.pack_into(">H", raw, 32, 2201)
    raw[34], raw[35], raw[36] = 0xFE, 0b1010_0010, 0b0010_0000
    block = dp5.status_of(dp5.Packet(0x80, 0x01, bytes(raw)))
    assert block.identity == "Amptek DP5, serial 12345, firmware 6.08.06"
    assert (block.fast_count, block.slow_count) == (70000, 65000)
    assert (block.accumulation_time, block.real_time) == (pytest.approx(1000.042), 1234.567)
    assert (block.high_voltage, block.board_temperature) == (-130, -2)
    assert block.detector_temperature == pytest.approx(220.1)
    assert (block.enabled, block.preset_reached, block.configured, block.rebooted) == (True,) * 4


@given(st.binary(min_size=64, max_size=64))
def test_any_64_bytes_are_a_status_without_a_crash(raw):
    block = dp5.status_of(dp5.Packet(0x80, 0x01, raw))
    assert block.real_time >= 0
    with pytest.raises(Garbled):
        dp5.status_of(dp5.Packet(0x80, 0x01, raw[:-1]))
    with pytest.raises(Garbled):
        dp5.status_of(dp5.Packet(0x81, 0x07, raw))
