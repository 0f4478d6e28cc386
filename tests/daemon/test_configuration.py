"""A laboratory's file is read whole, or refused with file, line and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe.daemon.configuration import CONFIG, SCHEMA, load, schema
from coldframe.daemon.lab_checks import guard_settings
from coldframe.errors import ConfigurationError

GOOD = """\
[lab]
name = "small"
simulated = true

[device.stage]
model = "lakeshore336"
address = "sim://stage"
limits = { setpoint = ["-195 degC", "40 degC"] }
poll = { temperature = 0.5 }

[[rule]]
id = "IL-03"
signal = "stage.temperature"
unit = "K"
above = "-170 degC"
reset = "-172 degC"
max_age_s = 2
trips = ["stage.heater"]
guidance = "The stage is too warm for this specimen: look at the nitrogen."
source = "a test"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "lab.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def test_a_good_file_is_read_with_its_units_and_its_hash(tmp_path):
    loaded = load(write(tmp_path, GOOD))

    assert loaded.lab.rule[0].above == pytest.approx(103.15)
    assert loaded.text.startswith("[lab]") and len(loaded.sha256) == 64
    assert guard_settings(loaded.lab).devices == {"stage": "lakeshore336"}


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("simulated = true", "simulated = true\ncolour = 1", 4, "unknown key"),
        ("simulated = true", "simulated = 1.5", 3, "valid boolean"),
        ('name = "small"', 'name = "Small Lab"', 2, "pattern"),
        ('model = "lakeshore336"', 'model = "lakeshore999"', 6, "no driver of 'lakeshore999'"),
        ('address = "sim://stage"', 'address = "tcp://1.2.3.4:7777"', 7, "sim://stage"),
        ('address = "sim://stage"', 'address = "sim://truth"', 7, "no instrument"),
        ('address = "sim://stage"', 'address = "sim://truth?tcp"', 7, "no instrument"),
        ('address = "sim://stage"', 'address = "sim://pid"', 7, "no instrument"),
        ("simulated = true", "simulated = false", 7, "simulated = true"),
        ('"40 degC"]', '"400 degC"]', 8, "wider than the instrument's"),
        ('["-195 degC", "40 degC"]', '["40 degC", "-195 degC"]', 8, "is above"),
        ('["-195 degC", "40 degC"]', '["-195", "40 degC"]', 8, "say degC or K"),
        ("setpoint = [", "setpiont = [", 8, "no such parameter"),
        ("temperature = 0.5 }", "temperature = 1e9 }", 9, "outside 0.01"),
        ("limits = {", "options = { sensr = 'A' }\nlimits = {", 8, "sensor"),
        ('signal = "stage.temperature"', 'signal = "stage.temperatur"', 11, "no such parameter"),
        ('signal = "stage.temperature"', 'signal = "stag.temperature"', 11, "no device 'stag'"),
        ('trips = ["stage.heater"]', 'trips = ["stage.beam"]', 11, "no output stage.beam"),
        ('reset = "-172 degC"', 'reset = "-160 degC"', 11, "healthy side"),
        ("max_age_s = 2", "max_age_s = 0.6", 11, "twice the poll"),
        ("max_age_s = 2", "max_age_s = nan", 17, "finite"),
        ('above = "-170 degC"', 'above = "-170 parsec"', 11, "not a unit"),
        ('id = "IL-03"', 'id = "thirteen"', 12, "pattern"),
        ("[lab]", "[lab", 1, "line 1"),
        ("[[rule]]", "[[rule]]\n[[rule]]", 11, "Field required"),
        ("[device.stage]", "[Device.stage]", 5, "unknown key"),
        ("[device.stage]", "[device.Stage]", 5, "pattern"),
    ],
)
def test_a_broken_file_is_refused_with_file_line_and_reason(tmp_path, old, new, line, says):
    path = write(tmp_path, GOOD.replace(old, new, 1))

    with pytest.raises(ConfigurationError) as refused:
        load(path)

    text = str(refused.value)
    assert says in text
    assert f"{path}:{line}" in text, text


def test_a_hazardous_output_without_a_rule_is_refused(tmp_path):
    text = GOOD[: GOOD.index("[[rule]]")]
    with pytest.raises(ConfigurationError, match=r"stage\.heater.*interlock"):
        load(write(tmp_path, text))


def test_a_file_anybody_may_write_is_refused(tmp_path):
    path = write(tmp_path, GOOD)
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="anybody may write"):
        load(path)


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "absent.toml")


def test_a_rule_file_may_hold_rules_only(tmp_path):
    (tmp_path / "rules.toml").write_text("[lab]\n")
    text = GOOD.replace("simulated = true", 'simulated = true\nrules = ["rules.toml"]')
    with pytest.raises(ConfigurationError, match=r"rules\.toml:1: lab: a rule file holds"):
        load(write(tmp_path, text))


def test_an_error_in_a_rule_file_names_that_file(tmp_path):
    rule = (
        GOOD[GOOD.index("[[rule]]") :].replace("IL-03", "IL-04").replace("max_age_s = 2", "age = 2")
    )
    (tmp_path / "more.toml").write_text(rule)
    text = GOOD.replace("simulated = true", 'simulated = true\nrules = ["more.toml"]')
    with pytest.raises(ConfigurationError, match=r"more\.toml:\d+: rule\.1\.age: unknown key"):
        load(write(tmp_path, text))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_file_is_refused_or_still_means_a_laboratory(tmp_path_factory, data):
    """No mutation of a good file gets anything but a Lab or a ConfigurationError that names it."""
    lines = GOOD.splitlines()
    where = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["drop", "double", "cut", "swap"]))
    if how == "drop":
        del lines[where]
    elif how == "double":
        lines.insert(where, lines[where])
    elif how == "cut":
        lines[where] = lines[where][: data.draw(st.integers(0, len(lines[where])))]
    else:
        other = data.draw(st.integers(0, len(lines) - 1))
        lines[where], lines[other] = lines[other], lines[where]
    path = write(tmp_path_factory.mktemp("lab"), "\n".join(lines))

    try:
        loaded = load(path)
    except ConfigurationError as refused:
        assert str(path) in str(refused)
    else:
        assert loaded.lab.device


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIG.glob("*.toml")))
def test_every_shipped_laboratory_is_accepted(name):
    assert load(CONFIG / name).lab.rule


def test_the_shipped_schema_is_that_of_the_models():
    assert json.loads((CONFIG / SCHEMA).read_text()) == json.loads(schema())
