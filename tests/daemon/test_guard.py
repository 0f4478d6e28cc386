"""The guard on real sockets, with hosts, a hub and a recorder that speak the wire from the test."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from coldframe.clock import NS, SystemClock
from coldframe.daemon.guard import Guard, GuardAddresses
from coldframe.daemon.journal import read
from coldframe.daemon.lanes import dealer, inner_router
from coldframe.daemon.permits import Permits
from coldframe.daemon.rules import (
    CellSettings,
    Check,
    ContactSettings,
    DoseSettings,
    GuardSettings,
    Rule,
)
from coldframe.daemon.securing import Securing
from coldframe.daemon.stamps import Stamps
from coldframe.messages import (
    Answer,
    Ask,
    Command,
    CommandInfo,
    DeviceInfo,
    Event,
    Grant,
    Left,
    Message,
    OutputInfo,
    ParameterInfo,
    Reading,
    Register,
    Registered,
    Relay,
    Reply,
    Safe,
    Secured,
    SessionMark,
    SessionMarked,
    Takeover,
    Watch,
    Watching,
    control,
    decode,
    header_of,
    new_id,
)

GUIDANCE = "Look at it before you do anything else."
RULES = (
    Rule(
        id="IL-03",
        signal="stage.temperature",
        unit="K",
        above="-170 degC",  # type: ignore[arg-type]
        reset="-172 degC",  # type: ignore[arg-type]
        max_age_s=1.0,
        specimen=("cryo",),
        trips=("beam.beam",),
        guidance=GUIDANCE,
        source="test",
    ),
    Rule(
        id="IL-01",
        signal="beam.dose_rate",
        unit="e/Å^2/s",
        above=11.0,
        max_age_s=1.0,
        specimen=("ambient", "cryo"),
        trips=("beam.beam",),
        guidance=GUIDANCE,
        source="test",
    ),
    Rule(
        id="IL-10",
        signal="bias.current",
        unit="A",
        above="110 nA",  # type: ignore[arg-type]
        magnitude=True,
        max_age_s=1.5,
        off_signal="bias.output",
        trips=("bias.bias",),
        guidance=GUIDANCE,
        source="test",
    ),
)
CHECKS = (
    Check(id="IL-01", check="dose", refuses=("beam.beam",), specimen=("ambient", "cryo"),
          guidance=GUIDANCE, source="test"),
    Check(id="IL-11", check="contact", refuses=("bias.bias",), guidance=GUIDANCE, source="test"),
    Check(id="IL-13", check="cold_bias", refuses=("bias.bias",), guidance=GUIDANCE, source="test"),
)  # fmt: skip
SETTINGS = GuardSettings(
    devices={"stage": "lakeshore336", "beam": "pyjem", "bias": "keithley2450"},
    specimen="cryo",
    rules=RULES,
    checks=CHECKS,
    dose=DoseSettings(max_rate=20, blanked_max_age_s=1.5),
    cell=CellSettings(
        area_cm2=0.04,
        thickness_um=3.7,
        sigma_S_cm=2.5e-6,
        overpotential_V=1.0,
        voltage_limit_V=5.5,
    ),
    contact=ContactSettings(moving=None),
    configuration_hash="c0ffee",
)
MODELS = dict(SETTINGS.devices)
OUTPUT = {"beam": "beam", "bias": "bias", "stage": None}
SECONDS = {"beam": 0.05, "bias": 0.05}


def info(device: str, boot: str) -> DeviceInfo:
    output = OUTPUT[device]
    return DeviceInfo(
        device=device,
        model=MODELS[device],
        role="",
        identity=f"{device} 1",
        simulated=False,
        boot=boot,
        pid=1,
        parameters=[
            ParameterInfo(name="spot", kind="int", writable=True, output="beam"),
            ParameterInfo(name="current_limit", kind="float", unit="A", writable=True),
            ParameterInfo(name="setpoint", kind="float", unit="K", writable=True),
        ],
        commands=[
            CommandInfo(name="unblank", hazard="hazardous", output="beam"),
            CommandInfo(name="output_on", hazard="hazardous", output="bias"),
            CommandInfo(name="blank", hazard="safe", output="beam"),
        ],
        outputs=[]
        if output is None
        else [OutputInfo(name=output, safe_state="off", seconds=SECONDS[device], fast_blank=None)],
    )


class FakeHost:
    """A host as the wire sees it: registers, asks, publishes, obeys `safe`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], device: str, guard: str):
        self.device, self.boot = device, new_id()
        self.socket = dealer(context, device, guard)
        self.socket.linger = 0
        self.stamps = Stamps(device, SystemClock(), simulated=False)
        output = OUTPUT[device]
        outputs = [] if output is None else [output]
        self.permits = Permits(device, self.boot, outputs, time.monotonic_ns)
        self.values: dict[str, tuple[Any, str]] = {}
        self.says: list[bytes] = []
        self.orders: list[bytes] = []
        self.safes: list[Safe] = []
        self.safe_ns: list[int] = []
        self.relays: list[Command] = []
        self.registered: list[Registered] = []
        self.verifies = self.asks = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"host {device}")

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self.socket.send(Register(info=info(self.device, self.boot)).encode())
        next_reading = 0.0
        while not self._stop.is_set():
            if self.asks and (ask := self.permits.ask()) is not None:
                self.socket.send(ask.encode())
            if time.monotonic() >= next_reading:
                next_reading = time.monotonic() + 0.05
                for name, (value, unit) in list(self.values.items()):
                    self.socket.send_multipart(
                        self.stamps.reading(f"{self.device}.{name}", value, unit)
                    )
            while self.orders:
                self.socket.send(self.orders.pop(0))
            while self.says:
                self.socket.send_multipart([self.says.pop(0), b"{"])
            if self.socket.poll(5):
                self._hear(control(self.socket.recv(), Grant, Safe, Relay, Registered))

    def _hear(self, message: Any) -> None:
        if isinstance(message, Grant):
            self.permits.grant(message)
        elif isinstance(message, Safe):
            self.safe_ns.append(time.monotonic_ns())
            self.permits.withdraw()
            self.safes.append(message)
            secured = Secured(
                id=message.id,
                device=self.device,
                verified=self.verifies,
                words="off" if self.verifies else "still on",
                mono_ns=str(time.monotonic_ns()),
            )
            self.socket.send(secured.encode())
        elif isinstance(message, Relay):
            self.relays.append(message.command)
        else:
            self.registered.append(message)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2)
        if OUTPUT[self.device] is not None:
            now = str(time.monotonic_ns())
            said = {"id": "", "device": self.device, "verified": True, "words": "stops"}
            self.socket.send(Secured(**said, mono_ns=now, leaving=True).encode())
            self.socket.linger = 100
        self.socket.close()


def until(what: Callable[[], Any], seconds: float = 3.0) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")


class Laboratory:
    """A guard in a thread, hosts, the hub's and the recorder's ends of its lanes, a client."""

    def __init__(self, folder: Path, settings: GuardSettings = SETTINGS, **values: Any):
        self.folder, self.settings = folder, settings
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.hub = inner_router(self.context, f"ipc://{folder}/hub")
        self.recorder = inner_router(self.context, f"ipc://{folder}/recorder")
        self.events: list[Event] = []
        self.readings: dict[str, Reading] = {}
        self.answers: dict[str, Reply] = {}
        self.registered: list[DeviceInfo] = []
        self.hosts: dict[str, FakeHost] = {}
        self.start_guard()

    def start_guard(self) -> None:
        address = f"ipc://{self.folder}/guard"
        addresses = GuardAddresses(
            address,
            "tcp://127.0.0.1:*",
            f"ipc://{self.folder}/hub",
            f"ipc://{self.folder}/recorder",
        )
        self.guard = Guard(
            self.settings, addresses, self.folder / "journal", SystemClock(), self.context
        )
        self._thread = threading.Thread(target=self.guard.run, name="guard")
        self._thread.start()
        self.client = self.context.socket(zmq.REQ)
        self.client.linger = 0
        self.client.connect(self.guard.clients)

    def stop_guard(self) -> None:
        self.guard.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.client.close()

    def host(self, device: str, **values: tuple[Any, str]) -> FakeHost:
        host = FakeHost(self.context, device, f"ipc://{self.folder}/guard")
        host.values = dict(values)
        self.hosts[device] = host
        host.start()
        until(lambda: host.registered)
        return host

    def cold(self) -> tuple[FakeHost, FakeHost, FakeHost]:
        """A healthy cold laboratory."""
        stage = self.host("stage", temperature=(88.15, "K"))
        beam = self.host(
            "beam",
            high_voltage=(200.0, "kV"),
            spot=(3, ""),
            magnification=(50000.0, ""),
            blanked=(True, ""),
        )
        bias = self.host("bias", current=(None, "A"), output=(False, ""), current_limit=(1e-7, "A"))
        until(lambda: self.ask("reset").error is None)
        for device in ("beam", "bias"):
            assert self.ask("enable", device).error is None
        return stage, beam, bias

    def ask(self, do: str, name: str = "", **args: Any) -> Reply:
        """A command on the guard's own port."""
        command = {"id": new_id(), "do": do, "name": name, "args": args}
        self.client.send(json.dumps(command).encode())
        assert self.client.poll(5000), "the guard did not answer"
        return decode(Reply, self.client.recv())

    def through_hub(self, do: str, name: str, value: Any = None, **args: Any) -> str:
        """A command as the hub relays it; returns its id."""
        command = Command(id=new_id(), do=do, name=name, value=value, args=args)  # type: ignore[arg-type]
        self.hub.send_multipart([b"guard", Relay(command=command).encode()])
        return command.id

    def refusal(self, do: str, name: str, value: Any = None, **args: Any) -> str:
        """The text the hub gets as the answer."""
        asked = self.through_hub(do, name, value, **args)
        reply = until(lambda: self.hear() or self.answers.get(asked))
        assert reply.error is not None, reply.value
        assert reply.error.kind == "Interlocked"
        return reply.error.text

    def hear(self) -> None:
        """Everything the guard has told hub and recorder."""
        while self.hub.poll(0):
            _, *message = self.hub.recv_multipart()
            if len(message) == 2:
                header = header_of(*message)
                if isinstance(header, Event):
                    self.events.append(header)
                elif isinstance(header, Reading):
                    self.readings[header.name] = header
                continue
            heard = control(message[0], Answer, Register)
            if isinstance(heard, Answer):
                self.answers[heard.reply.id] = heard.reply
            elif isinstance(heard, Register):
                self.registered.append(heard.info)

    def event(self, kind: str) -> Event:
        """The first event of this kind."""

        def find() -> Event | None:
            self.hear()
            return next((each for each in self.events if each.kind == kind), None)

        found: Event = until(find)
        return found

    def close(self) -> None:
        self.stop_guard()
        for host in self.hosts.values():
            host.close()
        self.hub.close()
        self.recorder.close()
        self.context.term()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    made = Laboratory(tmp_path)
    yield made
    made.close()


def granted(host: FakeHost) -> bool:
    return bool(host.permits.granted())


# ---- isolation ---------------------------------------------------------------------------------


def test_the_guard_loads_neither_numpy_nor_h5py_nor_any_driver() -> None:
    code = (
        "import sys, coldframe.daemon.guard, coldframe.daemon.processes; "
        "print([m for m in ('numpy', 'h5py', 'serial', 'coldframe.drivers.base') "
        "if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# ---- permits -----------------------------------------------------------------------------------


def test_nothing_is_granted_before_a_reset_and_after_it_what_is_healthy(lab: Laboratory) -> None:
    beam = lab.host("beam", blanked=(True, ""))
    until(lambda: beam.permits._answered >= 3)
    assert not granted(beam)
    beam.close()
    del lab.hosts["beam"]

    _, beam, bias = lab.cold()
    until(lambda: granted(bias) and granted(beam))


def test_a_host_cannot_give_the_guard_orders(lab: Laboratory) -> None:
    _, beam, bias = lab.cold()
    lab.ask("abort")
    until(lambda: not granted(beam))
    for do in ("reset", "enable"):
        relay = Relay(command=Command(id="1", do=do, name="beam"))  # type: ignore[arg-type]
        bias.orders.append(relay.encode())
    time.sleep(0.3)
    assert not granted(beam)
    assert "disabled" in lab.refusal("call", "beam.unblank")


def test_a_permit_lapses_when_the_guard_is_gone(lab: Laboratory) -> None:
    _, beam, _ = lab.cold()
    until(lambda: granted(beam))
    lab.guard.stop()
    lab._thread.join(5)
    until(lambda: not granted(beam), 0.6)


def test_an_older_ask_and_another_boot_get_no_answer(lab: Laboratory) -> None:
    lab.cold()
    socket = lab.context.socket(zmq.DEALER)
    socket.linger = 0
    lab.hosts["beam"].close()
    del lab.hosts["beam"]
    socket.setsockopt(zmq.ROUTING_ID, b"beam")
    socket.connect(f"ipc://{lab.folder}/guard")
    boot = new_id()
    socket.send(Register(info=info("beam", boot)).encode())
    assert socket.poll(2000) and b'"registered"' in socket.recv()

    for n, ours in ((7, boot), (6, boot), (7, boot), (9, new_id()), (8, boot)):
        socket.send(Ask(device="beam", boot=ours, n=n, outputs=["beam"]).encode())
    numbers = []
    while len(numbers) < 2 and socket.poll(2000):
        message = control(socket.recv(), Grant, Safe)
        numbers += [message.n] if isinstance(message, Grant) else []
    assert numbers == [7, 8]
    assert not socket.poll(50)
    socket.close()


def test_a_device_that_is_not_the_configurations_gets_no_permit(lab: Laboratory) -> None:
    socket = lab.context.socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.ROUTING_ID, b"beam")
    socket.connect(f"ipc://{lab.folder}/guard")
    wrong = info("beam", "b").model_copy(update={"model": "remcon32"})
    socket.send(Register(info=wrong).encode())
    assert socket.poll(2000)
    answer = control(socket.recv(), Registered)
    assert isinstance(answer, Registered) and "has pyjem, the host has remcon32" in str(
        answer.error
    )
    socket.send(Ask(device="beam", boot="b", n=1, outputs=["beam"]).encode())
    assert not socket.poll(100)
    socket.close()


# ---- trips -------------------------------------------------------------------------------------


def test_a_warm_stage_trips_the_beam_and_it_takes_ack_reset_and_enable(lab: Laboratory) -> None:
    stage, beam, bias = lab.cold()
    until(lambda: granted(beam))

    stage.values["temperature"] = (105.0, "K")
    until(lambda: beam.safes)
    until(lambda: not granted(beam))
    assert granted(bias) and not bias.safes
    tripped = lab.event("tripped")
    assert tripped.details["rule"] == "IL-03" and tripped.details["guidance"] == GUIDANCE
    assert "-168.15 °C" in tripped.text and "-170.00 °C" in tripped.text
    assert lab.event("secured").details["verified"] is True

    assert "tripped" in str(lab.ask("reset").error)
    assert lab.ask("ack", "IL-03").error is None
    assert "needs fresh good values" in str(lab.ask("reset").error)
    assert "stays disabled" in str(lab.ask("enable", "beam.beam").error)

    stage.values["temperature"] = (88.15, "K")
    until(lambda: lab.ask("reset").error is None)
    time.sleep(0.15)
    assert not granted(beam)
    assert lab.ask("enable", "beam.beam").error is None
    until(lambda: granted(beam))
    kinds = [entry.kind for entry in read(lab.folder / "journal").entries]
    assert [k for k in kinds if k in ("tripped", "acked", "reset", "enabled")] == [
        "reset", "enabled", "enabled", "tripped", "acked", "reset", "enabled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "says", [(None, "K"), (float("nan"), "K"), (88.15, "degC"), ("cold", "K"), (True, "K")]
)
def test_what_is_no_good_number_trips_at_once(lab: Laboratory, says: tuple[Any, str]) -> None:
    stage, beam, _ = lab.cold()
    stage.values["temperature"] = says
    until(lambda: beam.safes, 0.8)
    assert "not known" in lab.event("tripped").text


def test_a_reading_that_is_no_message_trips_at_once(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    stage.says.append(b"reading stage.temperature ")
    until(lambda: beam.safes, 0.8)


def test_a_silent_thermometer_trips_within_its_age(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    stage.values.clear()
    began = time.monotonic_ns()
    until(lambda: beam.safes)
    assert (beam.safe_ns[0] - began) / NS < 1.0 + 0.15
    assert "silent" in lab.event("tripped").text


def test_a_flood_of_commands_delays_no_trip(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    flood = lab.context.socket(zmq.DEALER)
    flood.linger = 0
    flood.connect(lab.guard.clients)
    for _ in range(900):
        flood.send(b'{"id":"1","do":"describe"}')
    while flood.poll(1000) and len(beam.safes) == 0:  # it is at work on them
        flood.recv()
        stage.values["temperature"] = (105.0, "K")
    assert beam.safes and flood.poll(1000)  # and had not come to their end
    flood.close()


def test_a_lost_reading_trips_at_once(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    stage.stamps.reading("stage.temperature", 88.15, "K")  # numbered, never sent
    until(lambda: beam.safes, 0.8)
    assert "number" in lab.event("tripped").text


def test_null_behind_an_open_relay_is_no_current(lab: Laboratory) -> None:
    _, _, bias = lab.cold()
    time.sleep(0.3)
    assert granted(bias)
    bias.values["output"] = (True, "")
    until(lambda: bias.safes, 1.2)  # on, and the current is not known


def test_what_is_not_verified_is_tried_again_and_called_not_safe(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    beam.verifies = False
    stage.values["temperature"] = (105.0, "K")
    until(lambda: len(beam.safes) >= 3)
    assert "NOT SAFE: beam: still on" in lab.event("not_safe").text
    beam.verifies = True
    assert "verified" in lab.event("secured").text


def test_abort_makes_everything_safe_and_disables_it(lab: Laboratory) -> None:
    _, beam, bias = lab.cold()
    until(lambda: granted(beam) and granted(bias))
    reply = lab.ask("abort", reason="smoke")
    assert reply.value == {"verified": ["beam", "bias"]}
    assert beam.safes[0].why == "abort by local: smoke" and bias.safes
    until(lambda: not granted(beam) and not granted(bias))
    assert lab.ask("reset").error is None
    assert "disabled" in lab.refusal("call", "beam.unblank")


def test_an_abort_that_cannot_be_verified_says_so(lab: Laboratory) -> None:
    _, _, bias = lab.cold()
    bias.verifies = False
    reply = lab.ask("abort")
    assert reply.error is not None and reply.error.kind == "NotSafe"
    assert "bias: still on" in reply.error.text


def test_a_host_that_stops_asking_is_given_to_the_last_hand(lab: Laboratory) -> None:
    _, beam, _ = lab.cold()
    hand = dealer(lab.context, "lasthand", f"ipc://{lab.folder}/guard")
    hand.linger = 0
    hand.send(Watching().encode())
    watched = {}
    while len(watched) < 2 and hand.poll(2000):
        message = control(hand.recv(), Watch, Takeover)
        assert isinstance(message, Watch)
        watched[message.device] = message.boot
    assert watched == {"beam": beam.boot, "bias": lab.hosts["bias"].boot}

    beam.asks = False
    assert hand.poll(3000)
    message = control(hand.recv(), Watch, Takeover)
    assert isinstance(message, Takeover) and message.boot == beam.boot

    # an abort asks the last hand for the device that has no host any more
    lab.client.send(Command(id="1", do="abort").encode())
    while hand.poll(3000):
        message = control(hand.recv(), Watch, Takeover)
        if isinstance(message, Takeover) and "abort" in message.why:
            break
    now = str(time.monotonic_ns())
    said = Secured(id="lasthand-1", device="beam", verified=True, words="off", mono_ns=now)
    hand.send(said.encode())
    assert lab.client.poll(3000)
    assert decode(Reply, lab.client.recv()).value == {"verified": ["beam", "bias"]}
    hand.close()


def takeovers(hand: zmq.Socket[bytes], seconds: float) -> list[Message]:
    """What the last hand is told within this time, beside whom to watch."""
    found, until_s = [], time.monotonic() + seconds
    while (left := until_s - time.monotonic()) > 0:
        if hand.poll(round(left * 1000) + 1):
            found.append(control(hand.recv(), Watch, Takeover, Left))
    return [each for each in found if not isinstance(each, Watch)]


def test_a_host_busy_with_a_slow_output_is_left_to_it(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "beam", 0.6)
    _, beam, _ = lab.cold()
    hand = dealer(lab.context, "lasthand", f"ipc://{lab.folder}/guard")
    hand.linger = 0
    hand.send(Watching().encode())
    began = time.monotonic()
    beam.asks = False
    assert takeovers(hand, 1.3) == []  # 0.9 s are for any host
    while not isinstance(control(hand.recv(), Watch, Takeover), Takeover):
        pass
    assert time.monotonic() - began > 1.4
    hand.close()


def test_a_slow_output_is_not_called_unsafe_before_its_time() -> None:
    orders = Securing()
    orders.order("beam", "test", 0)
    orders.order("ion", "test", 0, seconds=5.0)
    told = [[each.device for each in orders.due(second * NS)[1]] for second in (2, 3, 7, 8)]
    assert told == [[], ["beam"], [], ["ion"]]


def test_a_host_that_ended_in_good_order_is_not_taken_over_until_it_matters(
    lab: Laboratory,
) -> None:
    _, beam, _ = lab.cold()
    hand = dealer(lab.context, "lasthand", f"ipc://{lab.folder}/guard")
    hand.linger = 0
    hand.send(Watching().encode())
    lab.hosts.pop("beam").close()
    said = takeovers(hand, 1.3)
    assert said == [Left(device="beam", boot=beam.boot)]
    lab.client.send(Command(id="1", do="abort").encode())
    asked = takeovers(hand, 0.2)
    assert asked and isinstance(asked[0], Takeover) and "abort" in asked[0].why
    now = str(time.monotonic_ns())
    done = Secured(id="lasthand-1", device="beam", verified=True, words="off", mono_ns=now)
    hand.send(done.encode())
    assert decode(Reply, lab.client.recv()).value == {"verified": ["beam", "bias"]}
    hand.close()


# ---- hazardous commands --------------------------------------------------------------------------


def calibrated(lab: Laboratory, current: float = 100e-12) -> None:
    reply = lab.ask(
        "call",
        "guard.calibrate_dose",
        high_voltage=200.0,
        spot=3,
        magnification=50000.0,
        current=current,
        diameter=1e-6,
    )
    assert reply.error is None, reply.error


def test_a_hazardous_command_reaches_its_host_when_all_is_well(lab: Laboratory) -> None:
    _, beam, _ = lab.cold()
    calibrated(lab)
    asked = lab.through_hub("call", "beam.unblank")
    assert until(lambda: beam.relays)[0].id == asked
    journal = read(lab.folder / "journal").entries
    assert any(entry.kind == "passed" and "beam.unblank" in entry.text for entry in journal)
    assert {entry.configuration for entry in journal} == {"c0ffee"}


def test_a_refusal_names_rule_value_limit_and_what_would_allow_it(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    calibrated(lab)
    stage.values["temperature"] = (105.0, "K")
    until(lambda: beam.safes)
    text = lab.refusal("call", "beam.unblank")
    for part in ("IL-03", "-168.15 °C", "-170.00 °C", "below -172.00 °C", "ack IL-03", "`reset`",
                 "enable beam.beam"):  # fmt: skip
        assert part in text, text
    assert not beam.relays
    # a safe command is passed on all the same
    lab.through_hub("call", "beam.blank")
    until(lambda: [c.name for c in beam.relays] == ["beam.blank"])


def test_no_beam_without_a_dose_calibration_nor_above_its_limit(lab: Laboratory) -> None:
    _, beam, _ = lab.cold()
    text = lab.refusal("call", "beam.unblank")
    assert "IL-01" in text and "no valid calibration at 200 kV, spot 3" in text
    assert "calibrate_dose" in text
    calibrated(lab, current=150e-12)
    text = lab.refusal("call", "beam.unblank")
    assert "11.9" in text and "limit 11 e/Å^2/s" in text
    assert not beam.relays
    # with nothing in the column there is nothing to dose
    assert lab.ask("call", "guard.specimen_mode", mode="none").error is None
    lab.through_hub("call", "beam.unblank")
    until(lambda: beam.relays)


def test_a_cold_bias_is_refused_with_its_predicted_voltage(lab: Laboratory) -> None:
    stage, _, bias = lab.cold()
    assert "IL-11" in lab.refusal("call", "bias.output_on")
    contact = {"evidence": "image contrast -12 %", "person": "Ada"}
    assert lab.ask("call", "guard.confirm_contact", **contact).error is None
    text = lab.refusal("call", "bias.output_on")
    for part in ("IL-13", "predicted", "ohmic part", "overpotential 1 V", "limit 5.5 V", "-185.00"):
        assert part in text, text
    assert not bias.relays

    assert lab.ask("call", "guard.specimen_mode", mode="ambient").error is None
    stage.values["temperature"] = (293.15, "K")
    time.sleep(0.1)
    assert lab.ask("reset").error is None
    lab.through_hub("call", "bias.output_on")
    until(lambda: bias.relays)


def test_a_new_host_must_be_enabled_again(lab: Laboratory) -> None:
    lab.cold()
    lab.hosts.pop("beam").close()
    beam = lab.host("beam", blanked=(True, ""), high_voltage=(200.0, "kV"), spot=(3, ""),
                    magnification=(50000.0, ""))  # fmt: skip
    time.sleep(0.2)
    assert not granted(beam)
    assert "enable beam.beam" in lab.refusal("call", "beam.unblank")


# ---- restart, journal, what it says ------------------------------------------------------------


def test_a_restart_is_not_a_reset(lab: Laboratory) -> None:
    stage, beam, _ = lab.cold()
    stage.values["temperature"] = (105.0, "K")
    until(lambda: beam.safes)
    stage.values["temperature"] = (88.15, "K")
    for host in lab.hosts.values():
        host.close()
    lab.hosts.clear()
    time.sleep(0.02)
    lab.stop_guard()

    lab.start_guard()
    lab.host("stage", temperature=(88.15, "K"))
    assert "acknowledge it first" in str(lab.ask("reset").error)
    assert "tripped" in json.dumps(lab.ask("describe").value)


def test_a_broken_journal_trips_everything_and_the_dose_is_unknown(lab: Laboratory) -> None:
    lab.cold()
    for host in lab.hosts.values():
        host.close()
    lab.hosts.clear()
    time.sleep(0.02)
    lab.stop_guard()
    path = lab.folder / "journal"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)

    lab.start_guard()
    states = lab.ask("describe").value
    assert isinstance(states, dict) and isinstance(states["states"], dict)
    assert all("tripped" in str(text) for text in states["states"].values())
    assert lab.ask("get", "guard.specimen_mode").value == "cryo"
    found = lab.ask("snapshot").value
    assert isinstance(found, dict) and found["beam.dose"] is None


def test_it_tells_hub_and_recorder_dose_states_and_events(lab: Laboratory) -> None:
    lab.cold()
    until(
        lambda: lab.hear() or ("guard.il_03" in lab.readings and "beam.dose_rate" in lab.readings)
    )
    until(lambda: lab.hear() or lab.readings["beam.dose_rate"].value == 0.0)
    assert lab.readings["guard.il_03"].value in ("init", "armed")
    assert lab.readings["beam.dose"].unit == "e/Å^2"
    until(lambda: lab.hear() or lab.registered)
    names = {command.name for command in lab.registered[-1].commands}
    assert {"new_specimen", "calibrate_dose", "confirm_contact", "specimen_mode"} <= names

    lab.recorder.send_multipart([b"guard", SessionMark(session="s1").encode()])

    def marked() -> SessionMarked | None:
        while lab.recorder.poll(10):
            _, *message = lab.recorder.recv_multipart()
            if len(message) == 1 and b'"marked"' in message[0]:
                return decode(SessionMarked, message[0])
        return None

    answer: SessionMarked = until(marked)
    assert answer.session == "s1" and answer.next["reading beam.dose"] > 0


@pytest.mark.parametrize(
    "frames",
    [[b"{"], [b"\xff\xfe"], [b'{"id":"1","do":"explode"}'], [b"[" * 50_000], [b"{}", b"{}"]],
)  # fmt: skip
def test_what_is_no_command_is_answered_with_an_error(lab: Laboratory, frames: list[bytes]) -> None:
    lab.client.send_multipart(frames)
    assert lab.client.poll(2000)
    assert b"BadRequest" in lab.client.recv()


def test_commands_it_does_not_know_are_refused_by_name(lab: Laboratory) -> None:
    assert "UnknownName" in str(lab.ask("ack", "IL-99").error)
    assert "UnknownName" in str(lab.ask("enable", "beam.rays").error)
    assert "hub" in str(lab.ask("set", "stage.setpoint").error)
    assert "specimen mode 'wet'" in str(lab.ask("call", "guard.specimen_mode", mode="wet").error)
    assert "is missing" in str(lab.ask("call", "guard.new_specimen").error)
