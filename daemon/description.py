"""What a driver declares, narrowed by the laboratory's limits, as `register` carries it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any, cast

from coldframe.drivers.base import CommandSpec, Driver, Parameter
from coldframe.errors import ConfigurationError
from coldframe.messages import (
    ArgumentInfo,
    CommandInfo,
    DeviceInfo,
    Kind,
    OutputInfo,
    ParameterInfo,
    StreamInfo,
)

Limits = Mapping[str, tuple[float | None, float | None]]
Periods = Mapping[str, float | None]


def describe(
    driver: Driver, *, boot: str, identity: str, simulated: bool, limits: Limits, polls: Periods
) -> DeviceInfo:
    """The device as this host serves it. A limit or a period of an unknown parameter is refused."""
    for name in [*limits, *polls]:
        if name not in driver.parameters:
            known = ", ".join(driver.parameters)
            raise ConfigurationError(f"{driver.name} has no parameter {name!r}; it has {known}")
    stream = driver.stream()
    parameters = {
        name: _parameter(each, limits.get(name, (None, None)), polls.get(name, each.poll))
        for name, each in driver.parameters.items()
    }
    return DeviceInfo(
        device=driver.name,
        model=driver.model,
        role=driver.role,
        identity=identity,
        simulated=simulated,
        boot=boot,
        pid=os.getpid(),
        parameters=list(parameters.values()),
        commands=[
            _command(spec, {arg: parameters[driver.fill(p)] for arg, p in spec.bounds.items()})
            for spec in driver.commands.values()
        ],
        outputs=[OutputInfo(**output._asdict()) for output in driver.outputs],
        stream=None
        if stream is None
        else StreamInfo(
            kind=stream.kind,
            dtype=stream.dtype,
            shape=list(stream.shape),
            unit=stream.unit,
            axes=stream.axes,
        ),
    )


def _parameter(
    declared: Parameter[Any], lab: tuple[float | None, float | None], poll: float | None
) -> ParameterInfo:
    low, high = declared.limits or (None, None)
    return ParameterInfo(
        name=declared.name,
        kind=cast(Kind, declared.kind.__name__),
        unit=declared.unit,
        writable=declared.writable,
        poll=poll or None,
        minimum=max((each for each in (low, lab[0]) if each is not None), default=None),
        maximum=min((each for each in (high, lab[1]) if each is not None), default=None),
        choices=None if declared.choices is None else list(declared.choices),
        hazard=declared.hazard,
        safe_values=list(declared.safe_values),
        output=declared.output,
        doc=declared.doc,
    )


def _command(spec: CommandSpec, bounds: Mapping[str, ParameterInfo]) -> CommandInfo:
    arguments = {
        name: ArgumentInfo(
            kind=cast(Kind, kind.__name__),
            required=default is inspect.Parameter.empty,
            default=None if default is inspect.Parameter.empty else default,
            **{
                key: getattr(bounds[name], key)
                for key in ("unit", "minimum", "maximum")
                if name in bounds
            },
        )
        for name, (kind, default) in spec.arguments.items()
    }
    return CommandInfo(
        name=spec.name, hazard=spec.hazard, output=spec.output, arguments=arguments, doc=spec.doc
    )
