"""A refusal names the line of the key."""

from __future__ import annotations

import pytest

from coldframe.daemon.toml_lines import line_of

TEXT = """\
# a laboratory
[lab]
name = "x"

[device.stage]
model = "lakeshore336"
options = { sensor = "A" }
limits.setpoint = [80, 300]

[[rule]]
id = "IL-01"
[[rule]]
id = "IL-03"
above = 1
[rule.rate]
window_s = 3
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["lab", "name"], 3),
        (["device", "stage"], 5),
        (["device", "stage", "model"], 6),
        (["device", "stage", "options", "sensor"], 7),
        (["device", "stage", "limits", "setpoint"], 8),
        (["rule", 0, "id"], 11),
        (["rule", 1, "above"], 14),
        (["rule", 1], 12),
        (["nothing"], 1),
    ],
)
def test_the_line_of_a_key_is_found(path, line):
    assert line_of(TEXT, path) == line
