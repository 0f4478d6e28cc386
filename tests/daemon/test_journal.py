"""The guard's journal: whole lines, in order, or it says which one is not."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from coldframe.daemon.journal import Journal, read
from coldframe.errors import StorageError


def write(path: Path, count: int = 12) -> bytes:
    journal = Journal(path)
    for number in range(count):
        journal.append(
            "tripped",
            f"IL-{number:02} at −170 °C",
            t_ns=number,
            mono_ns=number,
            sync=number % 3 == 0,
        )
    journal.close()
    return path.read_bytes()


def test_what_is_written_is_read_in_order_and_without_gaps(tmp_path: Path) -> None:
    write(tmp_path / "j")
    account = read(tmp_path / "j")
    assert [entry.seq for entry in account.entries] == list(range(1, 13))
    assert account.entries[3].text == "IL-03 at −170 °C"
    assert not account.torn and not account.broken


def test_writing_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path / "j", 3)
    write(tmp_path / "j", 2)
    account = read(tmp_path / "j")
    assert [entry.seq for entry in account.entries] == [1, 2, 3, 4, 5]
    assert not account.broken


def test_every_flipped_byte_is_detected_and_the_lines_before_it_remain(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = write(path)
    good = read(path).entries
    draw = random.Random(3)
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        account = read(path)
        assert account.broken or account.torn, f"byte {position}"
        before = whole.count(b"\n", 0, position)
        assert account.entries == good[:before]


def test_a_removed_a_doubled_and_an_exchanged_line_are_detected(tmp_path: Path) -> None:
    path = tmp_path / "j"
    lines = write(path).splitlines(keepends=True)
    for changed in (lines[:4] + lines[5:], lines[:4] + lines[3:], [*lines[:2], lines[3], lines[2]]):
        path.write_bytes(b"".join(changed))
        assert "line" in read(path).broken


def test_a_torn_last_line_is_reported_cut_off_and_followed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = write(path, 4)
    for cut in range(1, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        account = read(path)
        assert account.torn and not account.broken and len(account.entries) == 3
    journal = Journal(path)
    journal.append("reset", "all rules armed", t_ns=9, mono_ns=9)
    journal.close()
    assert [entry.kind for entry in read(path).entries] == ["tripped"] * 3 + ["reset"]


def test_a_broken_journal_is_set_aside_and_its_good_part_told(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = bytearray(write(path))
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)
    journal = Journal(path)
    journal.append("reset", "begun anew", t_ns=1, mono_ns=1)
    journal.close()
    assert journal.account.broken and 0 < len(journal.account.entries) < 12
    assert (tmp_path / "j.broken-1").read_bytes() == whole
    assert [entry.seq for entry in read(path).entries] == [1]


def test_a_full_disk_is_an_error_and_leaves_no_half_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    journal = Journal(tmp_path / "j")
    journal.append("mode", "cryo", t_ns=1, mono_ns=1)
    real = os.dup(journal._file)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    with pytest.raises(StorageError):
        journal.append("reset", "lost", t_ns=2, mono_ns=2)
    os.dup2(real, journal._file)
    os.close(full)
    os.close(real)

    journal.append("reset", "kept", t_ns=3, mono_ns=3)
    journal.close()
    assert [(e.seq, e.text) for e in read(tmp_path / "j").entries] == [(1, "cryo"), (2, "kept")]
