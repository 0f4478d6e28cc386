"""The fault script says what a faulty wire carries, and nothing else."""

import pytest

from coldframe.simulators.faults import FAULTS, Faults

REPLY = b"+88.150\r\n"


def test_without_faults_a_reply_passes_as_it_is() -> None:
    assert Faults().transform(REPLY) == [(0.0, REPLY)]


def test_silence_sends_nothing() -> None:
    assert Faults({"silence": 1}).transform(REPLY) == []


def test_a_late_reply_is_whole_and_late() -> None:
    assert Faults({"late": 0.7}).transform(REPLY) == [(0.7, REPLY)]


def test_half_a_reply_is_its_beginning_without_its_end() -> None:
    assert Faults({"half": 0.5}).transform(REPLY) == [(0.0, REPLY[:4])]
    assert Faults({"half": 0.0}).transform(REPLY) == []


def test_garbage_keeps_the_line_end_and_no_character_of_the_reply() -> None:
    [(_, sent)] = Faults({"garbage": 1}).transform(REPLY)

    assert sent.endswith(b"\r\n") and len(sent) == len(REPLY)
    assert all(byte >= 0x80 for byte in sent[:-2])


def test_an_echo_comes_before_the_reply() -> None:
    assert Faults({"echo": 1}).transform(REPLY, b"KRDG? A\n") == [
        (0.0, b"KRDG? A\n"),
        (0.0, REPLY),
    ]


def test_faults_combine() -> None:
    assert Faults({"late": 0.2, "half": 0.5}).transform(REPLY) == [(0.2, REPLY[:4])]


def test_flags_are_asked_by_the_dialect_and_switched_at_run_time() -> None:
    faults = Faults()
    assert not faults.on("frozen")

    faults.switch_on("frozen")
    assert faults.on("frozen") and faults.transform(REPLY) == [(0.0, REPLY)]

    faults.switch_off("frozen")
    assert not faults.on("frozen")


def test_a_reboot_that_was_taken_is_over() -> None:
    faults = Faults({"reboot": 1, "drop": 1})

    assert faults.take("reboot") and not faults.take("reboot")
    assert faults.on("drop") and faults.on("drop")


def test_switching_all_off_heals_everything() -> None:
    faults = Faults(dict.fromkeys(FAULTS, 0.5))
    assert set(faults.active) == set(FAULTS)

    faults.switch_off()
    assert faults.active == {}


def test_the_command_line_states_faults_in_words() -> None:
    assert Faults.from_words(["late=0.5", "silence"]).active == {"late": 0.5, "silence": 1.0}


@pytest.mark.parametrize("word", ["slow", "late=soon", "late=-1", "half=1", "late=nan", "=3"])
def test_an_unknown_fault_or_an_impossible_value_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        Faults.from_words([word])


def test_an_unknown_flag_is_an_error_and_not_a_quiet_no() -> None:
    with pytest.raises(ValueError, match="known are silence"):
        Faults().on("frozzen")
