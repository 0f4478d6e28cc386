"""A permit is pulled, counted from the ask, and gone when it is not renewed."""

from __future__ import annotations

from coldframe.clock import ManualClock
from coldframe.daemon.permits import Permits
from coldframe.messages import Grant


def _permits() -> tuple[ManualClock, Permits]:
    clock = ManualClock()
    return clock, Permits("lamp", "boot1", ["light"], clock.mono_ns)


def _grant(n: int, boot: str = "boot1", *outputs: str) -> Grant:
    return Grant(boot=boot, n=n, granted=list(outputs or ["light"]))


def test_an_ask_is_due_every_100_ms() -> None:
    clock, permits = _permits()
    assert permits.ask() is not None
    assert permits.ask() is None
    clock.advance(0.099)
    assert permits.ask() is None
    clock.advance(0.001)
    second = permits.ask()
    assert second is not None
    assert (second.n, second.boot, second.outputs) == (2, "boot1", ["light"])


def test_a_grant_holds_until_500_ms_after_its_ask_was_sent_not_after_it_came() -> None:
    clock, permits = _permits()
    permits.ask()
    clock.advance(0.4)
    permits.grant(_grant(1))
    assert permits.granted() == {"light"}
    clock.advance(0.0999)
    assert permits.granted() == {"light"}
    clock.advance(0.0001)
    assert permits.granted() == frozenset()


def test_a_grant_that_comes_too_late_is_none() -> None:
    clock, permits = _permits()
    permits.ask()
    clock.advance(0.6)
    permits.grant(_grant(1))
    assert permits.granted() == frozenset()


def test_an_older_number_another_boot_or_a_number_never_asked_says_nothing() -> None:
    clock, permits = _permits()
    permits.ask()
    clock.advance(0.1)
    permits.ask()
    permits.grant(_grant(1, "boot0"))
    permits.grant(_grant(7))
    assert permits.granted() == frozenset()
    permits.grant(Grant(boot="boot1", n=2, granted=[]))
    permits.grant(_grant(1))
    assert permits.granted() == frozenset()


def test_an_output_the_device_does_not_have_is_never_granted() -> None:
    _, permits = _permits()
    permits.ask()
    permits.grant(_grant(1, "boot1", "gas"))
    assert permits.granted() == frozenset()


def test_safe_ends_a_grant_until_the_guard_grants_again() -> None:
    clock, permits = _permits()
    permits.ask()
    permits.grant(_grant(1))
    permits.withdraw()
    assert permits.granted() == frozenset()
    clock.advance(0.1)
    permits.ask()
    permits.grant(_grant(2))
    assert permits.granted() == {"light"}
