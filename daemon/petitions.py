"""What people and programs ask of the guard: acknowledge, reset, enable, abort, its own commands,
and leave for what is hazardous.

The answer is the value, or the error that says which rule, which value, which limit, and what would
allow it.
"""

from __future__ import annotations

import os
from typing import Any, get_args

from coldframe.daemon.checks import check
from coldframe.daemon.dose import Calibration
from coldframe.daemon.judge import GUARD, Judge
from coldframe.daemon.predict import cold_bias
from coldframe.daemon.rules import DERIVED_POLL_S, Check, SpecimenMode
from coldframe.daemon.vetting import as_number
from coldframe.errors import BadRequest, Interlocked, NotReady, StorageError, UnknownName
from coldframe.messages import (
    ArgumentInfo,
    Command,
    CommandInfo,
    DeviceInfo,
    ParameterInfo,
    Relay,
)
from coldframe.units import show

_NUMBER, _INT, _TEXT = (ArgumentInfo(kind=kind) for kind in ("float", "int", "str"))
_OWN = {
    "calibrate_dose": (
        "A current measured in the Faraday cup (A) and the disc it lights (m), at one setting.",
        {
            "high_voltage": _NUMBER,
            "spot": _INT,
            "magnification": _NUMBER,
            "current": _NUMBER,
            "diameter": _NUMBER,
            "sigma": ArgumentInfo(kind="float", required=False, default=0.0),
        },
    ),
    "new_specimen": (
        "A person has put in a specimen with this id: its dose begins at zero.",
        {"id": _TEXT},
    ),
    "specimen_mode": ("A person says what is in: none, ambient or cryo.", {"mode": _TEXT}),
    "confirm_contact": (
        "A person vouches that the needle touches: what shows it, and who says so.",
        {"evidence": _TEXT, "person": _TEXT},
    ),
    "set_step": (
        "The step of the ion recipe, and the species it wants.",
        {"step": _TEXT, "species": ArgumentInfo(kind="str", required=False, default="Ga")},
    ),
}


OUTPUT_MAX_AGE_S = 1.5  # a bias that was last read as off longer ago may be on


class Petitions:
    """Commands for the guard itself, and the check of hazardous ones."""

    def __init__(self, judge: Judge, boot: str):
        self.judge, self.boot = judge, boot

    def answer(self, command: Command) -> Any:
        """Carry out a command of the guard's own; raises what stands against it."""
        judge, now, by = self.judge, self.judge.clock.mono_ns(), command.by or "local"
        if command.do == "ack":
            judge.commit(judge.engine.ack(command.name, now), by)
            return judge.engine.describe(command.name, now)
        if command.do == "reset":
            judge.tick()
            judge.commit(judge.engine.reset(now), by)
            return self._states()
        if command.do == "enable":
            for output in self._outputs(command.name):
                judge.commit(judge.engine.enable(output, now), by)
            return f"{command.name} may be used; nothing was turned on"
        if command.do == "describe":
            return {"states": self._states(), "info": self.info().model_dump(mode="json")}
        if command.do == "snapshot":
            return {name: value for name, (value, _) in judge.values().items()}
        if command.do in ("call", "get") and command.name.partition(".")[0] == GUARD:
            check(self.info(), command)
            member = command.name.partition(".")[2]
            if command.do == "get":
                return judge.values()[command.name][0]
            return getattr(self, f"_{member}")(command.args, by)
        raise BadRequest(f"{command.do!r} is nothing the guard does")

    def _outputs(self, name: str) -> list[str]:
        """An output, or all those of a device."""
        host = self.judge.hosts.get(name)
        return [name] if host is None else host.outputs

    def abort(self, command: Command) -> set[str]:
        """Disable every output, order every device safe; returns the devices that must answer."""
        judge = self.judge
        why = f"abort by {command.by or 'local'}: {command.args.get('reason', 'no reason given')}"
        outputs = [name for host in judge.hosts.values() for name in host.outputs]
        devices = judge.make_safe(outputs, why)
        judge.happened(judge.engine.disable(outputs, why, judge.clock.mono_ns()))
        return devices

    def forward(self, command: Command) -> tuple[str, Relay]:
        """A hazardous command, checked: the device and the message, to be sent in this turn."""
        judge, now = self.judge, self.judge.clock.mono_ns()
        device = command.name.partition(".")[0]
        host = judge.hosts.get(device)
        if host is None:
            if device in judge.settings.devices:
                raise NotReady(f"{device}: its host has not registered with the guard yet")
            raise UnknownName(f"no device {device!r}")
        verdict = check(host.info, command)
        if verdict.hazard == "hazardous":
            outputs = [f"{device}.{verdict.output}"] if verdict.output else host.outputs
            if refusal := self._refusal(command, outputs, now):
                judge.say("refused", f"{command.name}: {refusal}", command=command.name)
                raise Interlocked(f"{command.name} refused: {refusal}")
            self._pass_on(command, outputs)
        return device, Relay(command=command)

    def info(self) -> DeviceInfo:
        """The guard as a device: what it publishes, what it can be asked."""
        parameters = [
            ParameterInfo(
                name=name.removeprefix(f"{GUARD}."),
                kind="float" if name in self.judge.derived.units else "str",
                unit=unit,
                poll=DERIVED_POLL_S,
                hazard="neutral",
            )
            for name, (_, unit) in self.judge.values().items()
        ]
        commands = [
            CommandInfo(name=name, hazard="neutral", arguments=arguments, doc=doc)
            for name, (doc, arguments) in _OWN.items()
        ]
        return DeviceInfo(
            device=GUARD,
            model=GUARD,
            role=GUARD,
            identity="coldframe guard",
            simulated=self.judge.settings.simulated,
            boot=self.boot,
            pid=os.getpid(),
            parameters=parameters,
            commands=commands,
        )

    # ---- hazardous commands --------------------------------------------------------------------

    def _refusal(self, command: Command, outputs: list[str], now_ns: int) -> str | None:
        judge = self.judge
        if not judge.granting:
            return "the service that started the guard is gone"
        concerns: list[str | None] = [*outputs] or [None]
        for output in concerns:
            if found := judge.engine.refusal(output, now_ns):
                return found
        against = [
            f"{each.id}: {found}"
            for each in judge.settings.checks
            if set(outputs) & set(each.refuses)
            and command.name not in each.excepts
            and judge.mode in each.specimen
            and (found := self._ask(each, command))
        ]
        if against:  # all of it, so that nobody mends one thing to be refused for the next
            return "; and ".join(against)
        try:
            details = {"name": command.name, "value": command.value, "args": command.args}
            judge.write("passed", f"{command.do} {command.name}", details, by=command.by or "")
        except StorageError as error:
            return f"the guard's journal cannot be written: {error}"
        return None

    def _ask(self, each: Check, command: Command) -> str | None:
        if each.check == "dose":
            return self._dose(command)
        if each.check == "ion_step":
            return self._ion(command)
        if each.check == "contact":
            return self._contact(command)
        return self._cold_bias(command)

    def _dose(self, command: Command) -> str | None:
        judge, now, lab = self.judge, self.judge.clock.mono_ns(), self.judge.clock.lab_ns()
        meter = judge.meter
        assert meter is not None
        column, member = meter.settings.column, command.name.partition(".")[2]
        planned = {}
        if command.do == "set":
            if meter.look(now, lab).rate == 0.0:
                return None  # blanked: what it will be is asked when it is unblanked
            if (value := _number(command.value)) is not None and member in (
                "spot",
                "magnification",
            ):
                planned = {member: value}
        look = meter.unblanked_rate(now, lab, **planned)
        if look.rate is None:
            return (
                f"the dose rate is unknown: {look.words}; allowed after `call guard.calibrate_dose`"
                " at this setting, or with nothing in the column (`guard.specimen_mode` none)"
            )
        signal = f"{column}.dose_rate"
        limits = [r.above for r in judge.settings.rules if r.signal == signal and r.above]
        if limits and look.rate >= min(limits):
            return (
                f"predicted {signal} {show(look.rate, 'e/Å^2/s')} at {look.words} reaches the "
                f"limit {show(min(limits), 'e/Å^2/s')}; allowed with a smaller spot or "
                "magnification"
            )
        return None

    def _ion(self, command: Command) -> str | None:
        judge, now = self.judge, self.judge.clock.mono_ns()
        ion = judge.derived.ion
        assert ion is not None
        current = judge.derived.ion_current(now)
        if command.do == "set":
            member = command.name.partition(".")[2]
            if member == "preset":
                current = ion.settings.presets.get(str(command.value))
            elif member == "current":
                current = _number(command.value)
        species = judge.facts.last(f"{ion.settings.device}.species")
        return ion.refusal(current, str(species.value) if species and species.good else None)

    def _contact(self, command: Command) -> str | None:
        contact, settings = self.judge.contact, self.judge.settings.contact
        assert contact is not None and settings is not None
        if command.do == "set" and self._is_off(settings.output_on, OUTPUT_MAX_AGE_S):
            return None
        return contact.refusal(self.judge.clock.mono_ns(), self._moving())

    def _cold_bias(self, command: Command) -> str | None:
        judge, cell = self.judge, self.judge.settings.cell
        assert cell is not None
        if command.do == "set" and self._is_off(cell.output_on, cell.output_max_age_s):
            return None
        now = judge.clock.mono_ns()
        kelvin = as_number(judge.facts.fresh(cell.temperature, cell.temperature_max_age_s, now))
        if kelvin is None or kelvin <= 0:
            return f"{cell.temperature} is not known; allowed with fresh good values of it"
        given = [_number(command.args.get(key)) for key in ("current", "current_limit")]
        if command.do == "set" and command.name == cell.current:
            given.append(_number(command.value))
        amperes = [abs(x) for x in given if x is not None]
        current = max(amperes, default=judge.facts.largest(cell.current))
        if current is None:
            return f"{cell.current} is not known; allowed once it is read or set"
        found = cold_bias(cell, kelvin, current)
        if found.allowed:
            return None
        return f"cold bias: {found.words()}; allowed warmer, or with a smaller current"

    def _is_off(self, name: str, max_age_s: float) -> bool:
        return self.judge.facts.fresh(name, max_age_s, self.judge.clock.mono_ns()) is False

    def _moving(self) -> bool | None:
        settings = self.judge.settings.contact
        if settings is None or settings.moving is None:
            return False
        age = settings.moving_max_age_s
        found = self.judge.facts.fresh(settings.moving, age, self.judge.clock.mono_ns())
        return found if isinstance(found, bool) else None

    def _pass_on(self, command: Command, outputs: list[str]) -> None:
        """What the guard must know of a command that is on its way."""
        judge, now = self.judge, self.judge.clock.mono_ns()
        if command.do == "set" and (value := _number(command.value)) is not None:
            device, _, member = command.name.partition(".")
            judge.facts.sent(command.name, value)
            if judge.meter is not None and device == judge.meter.settings.column:
                judge.meter.changing(member, value, now)
        meter, contact = judge.meter, judge.settings.contact
        beam = f"{meter.settings.column}.{meter.settings.output}" if meter is not None else ""
        if meter is not None and command.do == "call" and beam in outputs:
            steady = judge.clock.lab_ns() if judge.settings.simulated else now
            meter.unblanking(now, judge.clock.lab_ns(), steady)
        if judge.contact is not None and contact is not None and contact.motion in outputs:
            judge.contact.moved(now)

    # ---- its own commands ------------------------------------------------------------------------

    def _states(self) -> dict[str, str]:
        now = self.judge.clock.mono_ns()
        engine = self.judge.engine
        return {rule_id: engine.describe(rule_id, now) for rule_id in engine.states()}

    def _calibrate_dose(self, args: dict[str, Any], by: str) -> Any:
        meter = self._meter()
        entry = Calibration(**args, t_ns=self.judge.clock.lab_ns())
        meter.calibrate(entry)
        text = f"{entry.rate:.4g} e⁻/Å²/s at spot {entry.spot}, {entry.magnification:g}×"
        self.judge.write("calibrated", text, entry.__dict__, by=by, sync=True)
        self.judge.say("calibrated", text, **args)
        return {"dose_rate": entry.rate}

    def _new_specimen(self, args: dict[str, Any], by: str) -> Any:
        meter = self._meter()
        if not args["id"].strip():
            raise BadRequest("a new specimen needs an id")
        details = {"specimen": args["id"], "upper": 0.0}
        self.judge.write("dose", f"new specimen {args['id']}", details, by=by, sync=True)
        meter.new_specimen(args["id"])
        self.judge.reserved = 0.0
        self.judge.say("new_specimen", f"new specimen {args['id']}, dose 0", id=args["id"], by=by)
        return {"specimen": args["id"], "dose": 0.0}

    def _specimen_mode(self, args: dict[str, Any], by: str) -> Any:
        modes: tuple[SpecimenMode, ...] = get_args(SpecimenMode)
        for mode in modes:
            if mode == args["mode"]:
                now = self.judge.clock.mono_ns()
                self.judge.commit(self.judge.engine.set_mode(mode, now), by)
                return {"specimen_mode": mode, "rules": self._states()}
        raise BadRequest(f"specimen mode {args['mode']!r} is none of {', '.join(modes)}")

    def _confirm_contact(self, args: dict[str, Any], by: str) -> Any:
        contact, now = self.judge.contact, self.judge.clock.mono_ns()
        if contact is None:
            raise BadRequest("this laboratory has no [contact]")
        contact.confirm(args["evidence"], args["person"], now, self._moving())
        text = f"contact: {args['evidence']}, {args['person']}"
        self.judge.write("contact", text, args, by=by, sync=True)
        self.judge.say("contact", text, **args)
        return {"valid_s": contact.settings.valid_s}

    def _set_step(self, args: dict[str, Any], by: str) -> Any:
        ion = self.judge.derived.ion
        if ion is None:
            raise BadRequest("this laboratory has no [ion]")
        ion.set(args["step"], args.get("species", "Ga"))
        text = f"ion step {args['step']}: up to {show(ion.limit, 'A')}"
        self.judge.write("step", text, args, by=by, sync=True)
        self.judge.say("step", text, **args)
        return {"limit_A": ion.limit}

    def _meter(self) -> Any:
        if self.judge.meter is None:
            raise BadRequest("this laboratory has no [dose]")
        return self.judge.meter


def _number(value: Any) -> float | None:
    return as_number(value) if isinstance(value, int | float) else None
