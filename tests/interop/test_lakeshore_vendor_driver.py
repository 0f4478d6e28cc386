"""The vendor's own driver takes our simulated Lake Shore for one of theirs."""

import pytest

from coldframe.simulators.lakeshore import LakeshoreSimulator


@pytest.mark.parametrize("model", ["335", "336"])
def test_the_vendors_driver_reads_and_commands_our_simulator(bench, there, model):
    simulator, address = bench.serve(LakeshoreSimulator, f"lakeshore{model}", transport="tcp")
    bench.step(60)

    got = there("lakeshore_vendor.py", model, address.rsplit(":", 1)[1])

    stage = bench.world.stage
    assert got["model"] == f"MODEL{model}"
    assert got["kelvin"] == pytest.approx([stage.temperature, stage.sensor("B")], abs=0.1)
    assert got["all"][:2] == pytest.approx(got["kelvin"], abs=0.1)
    assert got["pid"] == [60.0, 25.0, 0.0]
    assert got["ramp"] == {"ramp_enable": True, "rate_value": 7.5}
    assert got["setpoint"] == pytest.approx(103.15)
    assert got["range"] == 1
    assert got["refused"] == "InstrumentException"
    assert got["after"] == pytest.approx(got["kelvin"][0], abs=0.1)
    assert got["off"] == 0
    assert any(order.startswith("SETP 1") and "103.15" in order for order in simulator.writes)
