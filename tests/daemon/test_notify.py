"""What systemd hears, on a socket of the test's own."""

from __future__ import annotations

import os
import socket

import pytest

from coldframe.daemon.notify import notify, watchdog_seconds


@pytest.mark.parametrize("abstract", [False, True])
def test_a_message_arrives_on_the_notify_socket(tmp_path, monkeypatch, abstract):
    name = f"@coldframe-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        listener.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        assert notify("READY=1")

        assert listener.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_the_watchdog_is_pinged_at_half_its_period_and_only_by_its_process(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert watchdog_seconds() is None
