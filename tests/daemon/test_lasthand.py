"""The last hand against real processes that hold the real port of a simulated column."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from coldframe.daemon.lanes import inner_router
from coldframe.daemon.lasthand import LastHand, Port
from coldframe.drivers.remcon32 import RemCon32
from coldframe.messages import Left, Message, Secured, Takeover, Watch, Watching, control, new_id
from coldframe.simulators.remcon32 import RemCon32Simulator

ROOT = Path(__file__).parents[2]
HOST = """
import sys, time
from coldframe.drivers.remcon32 import RemCon32
driver = RemCon32("sem", sys.argv[1])
driver.open()
driver.unblank()
print("on", flush=True)
time.sleep(60)
"""


class Guarded:
    """The guard's end of the wire, and a last hand in a thread."""

    def __init__(self, folder: Path, ports: dict[str, Port], parent: int):
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        address = f"ipc://{folder}/guard"
        self.socket = inner_router(self.context, address)
        self.hand = LastHand(ports, address, self.context, parent)
        self.thread = threading.Thread(target=self.hand.run, name="last hand")
        self.thread.start()
        self.secured: list[Secured] = []
        self.boots: list[str] = []
        assert self.wait(lambda: self.boots == [])
        self.hear(2.0)

    def tell(self, message: Message) -> None:
        self.socket.send_multipart([b"lasthand", message.encode()])

    def watch(self, device: str, pid: int) -> str:
        boot = new_id()
        self.tell(Watch(device=device, pid=pid, boot=boot))
        return boot

    def hear(self, seconds: float) -> None:
        if self.socket.poll(round(seconds * 1000)):
            message = control(self.socket.recv_multipart()[-1], Watching, Secured)
            if isinstance(message, Watching):
                self.boots = message.boots
            elif isinstance(message, Secured):
                self.secured.append(message)

    def wait(self, what: Callable[[], Any], seconds: float = 5.0) -> bool:
        deadline = time.monotonic() + seconds
        while not what() and time.monotonic() < deadline:
            self.hear(0.02)
        return bool(what())

    def close(self) -> None:
        self.hand.stop()
        self.thread.join(5)
        self.socket.close()
        self.context.term()


class Host:
    """A child process that has the beam on and then does nothing more."""

    def __init__(self, address: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, address], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "on"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def column(bench: Any) -> tuple[RemCon32Simulator, str]:
    made: tuple[RemCon32Simulator, str] = bench.serve(RemCon32Simulator, transport="serial")
    return made


@pytest.fixture
def guarded(tmp_path: Path, column: tuple[RemCon32Simulator, str]) -> Iterator[Guarded]:
    made = Guarded(tmp_path, {"sem": Port(RemCon32, column[1])}, os.getpid())
    yield made
    made.close()


@pytest.fixture
def host(column: tuple[RemCon32Simulator, str]) -> Iterator[Host]:
    made = Host(column[1])
    yield made
    made.close()


def blanked_after(simulator: RemCon32Simulator, began: float) -> float:
    """When the world saw the beam blanked, s after `began`."""
    while not simulator.world.beam.blanked:
        assert time.monotonic() - began < 5, "the beam stayed on"
        time.sleep(0.0005)
    return time.monotonic() - began


def test_a_killed_hosts_beam_is_blanked_and_the_guard_told(
    guarded: Guarded, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    simulator = column[0]
    boot = guarded.watch("sem", host.process.pid)
    assert guarded.wait(lambda: guarded.boots == [boot])
    assert not simulator.world.beam.blanked

    host.process.kill()
    blanked_after(simulator, time.monotonic())
    assert guarded.wait(lambda: guarded.secured)
    assert guarded.secured[0].device == "sem" and guarded.secured[0].verified

    # told again of the dead one, it does nothing; asked to take over again, it does
    guarded.tell(Watch(device="sem", pid=host.process.pid, boot=boot))
    guarded.hear(0.1)
    assert len(guarded.secured) == 1
    guarded.tell(Takeover(device="sem", boot=boot, why="abort"))
    assert guarded.wait(lambda: len(guarded.secured) == 2 and guarded.secured[1].verified)


def test_from_death_to_the_safe_order_it_takes_at_most_a_tenth_of_a_second(
    guarded: Guarded, column: tuple[RemCon32Simulator, str]
) -> None:
    simulator, address = column
    took = []
    for _ in range(5):
        host = Host(address)
        boot = guarded.watch("sem", host.process.pid)
        assert guarded.wait(lambda boot=boot: boot in guarded.boots)
        host.process.kill()
        took.append(blanked_after(simulator, time.monotonic()))
        count = len(took)
        assert guarded.wait(lambda count=count: len(guarded.secured) == count)
        host.close()
    assert statistics.median(took) <= 0.1, took


def test_a_host_that_hangs_is_killed_first_for_it_holds_the_port(
    guarded: Guarded, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    simulator = column[0]
    boot = guarded.watch("sem", host.process.pid)
    host.process.send_signal(signal.SIGSTOP)
    assert guarded.wait(lambda: guarded.boots == [boot])

    guarded.tell(Takeover(device="sem", boot="another", why="an older boot"))
    guarded.hear(0.1)
    assert not simulator.world.beam.blanked

    guarded.tell(Takeover(device="sem", boot=boot, why="silent for 0.9 s"))
    blanked_after(simulator, time.monotonic())
    assert guarded.wait(lambda: guarded.secured)
    assert guarded.secured[0].verified
    assert host.process.wait(5) == -signal.SIGKILL


def test_a_process_that_is_not_the_services_own_is_never_killed(
    tmp_path: Path, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    somebody = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    other = Guarded(tmp_path, {"sem": Port(RemCon32, column[1])}, somebody.pid)
    try:
        boot = other.watch("sem", host.process.pid)
        other.tell(Takeover(device="sem", boot=boot, why="test"))
        assert other.wait(lambda: other.secured)
        assert not other.secured[0].verified and "not killed" in other.secured[0].words
        assert host.process.poll() is None
    finally:
        other.close()
        somebody.kill()
        somebody.wait(5)


def test_a_host_that_died_before_it_was_watched_is_taken_over(
    guarded: Guarded, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    host.process.kill()
    host.process.wait(5)
    guarded.watch("sem", host.process.pid)
    blanked_after(column[0], time.monotonic())
    assert guarded.wait(lambda: guarded.secured and guarded.secured[0].verified)


def test_the_end_of_a_host_that_left_in_good_order_asks_for_nothing(
    guarded: Guarded, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    boot = guarded.watch("sem", host.process.pid)
    assert guarded.wait(lambda: guarded.boots == [boot])
    guarded.tell(Left(device="sem", boot=new_id()))  # of another boot: nothing
    guarded.tell(Left(device="sem", boot=boot))
    guarded.tell(Watch(device="sem", pid=host.process.pid, boot=boot))
    guarded.hear(0.6)
    host.process.kill()
    host.process.wait(5)
    guarded.hear(0.6)
    assert not guarded.secured and not column[0].world.beam.blanked
    guarded.tell(Takeover(device="sem", boot=boot, why="abort"))  # now it matters
    assert guarded.wait(lambda: guarded.secured and guarded.secured[0].verified)


def test_what_cannot_be_verified_is_not_called_safe_and_is_tried_on(
    guarded: Guarded, host: Host, column: tuple[RemCon32Simulator, str], bench: Any
) -> None:
    simulator = column[0]
    boot = guarded.watch("sem", host.process.pid)
    assert guarded.wait(lambda: guarded.boots == [boot])
    bench.do(lambda: simulator.faults.switch_on("lie"))
    host.process.kill()
    assert guarded.wait(lambda: guarded.secured, 8)
    assert not guarded.secured[0].verified and "not verified" in guarded.secured[0].words
    bench.do(lambda: simulator.faults.switch_off("lie"))
    assert guarded.wait(lambda: guarded.secured[-1].verified)
    assert simulator.world.beam.blanked


def test_it_ends_with_the_service_once_every_host_is_gone(
    tmp_path: Path, host: Host, column: tuple[RemCon32Simulator, str]
) -> None:
    service = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    orphan = Guarded(tmp_path, {"sem": Port(RemCon32, column[1])}, service.pid)
    boot = orphan.watch("sem", host.process.pid)
    assert orphan.wait(lambda: orphan.boots == [boot])
    service.kill()
    service.wait(5)
    orphan.hear(0.1)
    assert orphan.thread.is_alive()  # a host is still there
    host.process.kill()
    orphan.thread.join(5)
    assert not orphan.thread.is_alive()
    assert column[0].world.beam.blanked
    orphan.close()
