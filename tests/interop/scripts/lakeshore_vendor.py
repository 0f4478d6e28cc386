"""The vendor's `lakeshore` package asks and orders as a user would; prints what it got as JSON."""

import json
import sys

import lakeshore

model, port = sys.argv[1], int(sys.argv[2])
got = {}
wire = {"ip_address": "127.0.0.1", "tcp_port": port}
if model == "335":
    wire["baud_rate"] = 57600  # it insists, though there is no baud on TCP
with getattr(lakeshore, f"Model{model}")(**wire) as stage:
    got["model"], got["serial"] = stage.model_number, stage.serial_number
    got["kelvin"] = [stage.get_kelvin_reading("A"), stage.get_kelvin_reading("B")]
    got["all"] = stage.get_all_kelvin_reading()

    stage.set_heater_pid(1, 60.0, 25.0, 0.0)
    got["pid"] = list(stage.get_heater_pid(1).values())
    stage.set_control_setpoint(1, 103.15)
    got["setpoint"] = stage.get_control_setpoint(1)
    stage.set_setpoint_ramp_parameter(1, True, 7.5)
    got["ramp"] = stage.get_setpoint_ramp_parameter(1)
    stage.set_heater_range(1, stage.HeaterRange.LOW)
    got["range"] = int(stage.get_heater_range(1))
    got["heater"] = stage.get_heater_output(1)

    try:
        stage.set_control_setpoint(9, 1.0)
    except lakeshore.generic_instrument.InstrumentException as error:
        got["refused"] = type(error).__name__
    got["after"] = stage.get_kelvin_reading("A")
    stage.all_heaters_off()
    got["off"] = int(stage.get_heater_range(1))
print(json.dumps(got))
