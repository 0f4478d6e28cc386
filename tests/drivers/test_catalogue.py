"""Plug-ins: only those a laboratory trusts are loaded, and a bad one is a refusal that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coldframe.daemon.configuration import load
from coldframe.drivers.base import Driver
from coldframe.drivers.catalogue import driver
from coldframe.errors import ConfigurationError, UnknownName

GOOD = """
from coldframe.drivers.base import Driver
from coldframe.drivers.lakeshore import Lakeshore

class Meter(Lakeshore):
    \"\"\"A stranger's meter.\"\"\"
    models = ("acme42",)
"""
LAB = """\
[lab]
name = "small"
plugins = ["acme"]

[device.meter]
model = "acme42"
address = "tcp://127.0.0.1:7777"
"""
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a module as the entry point `acme` of the group, as pip would."""

    def install_it(text: str) -> None:
        about = tmp_path / "acme-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[coldframe.drivers]\nacme = acme_meter:Meter\n")
        (tmp_path / "acme_meter.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)

    yield install_it
    sys.modules.pop("acme_meter", None)


def test_the_driver_of_a_trusted_plug_in_is_found(install: Install) -> None:
    install(GOOD)

    kind = driver("acme42", ["acme"])

    assert issubclass(kind, Driver) and kind.models == ("acme42",)


def test_a_plug_in_nobody_trusts_is_not_even_imported(install: Install) -> None:
    install(GOOD)

    with pytest.raises(UnknownName, match="no driver of 'acme42'"):
        driver("acme42", ["another"])

    assert "acme_meter" not in sys.modules


def test_an_unknown_model_is_answered_with_those_of_the_plug_ins_too(install: Install) -> None:
    install(GOOD)

    with pytest.raises(UnknownName, match=r"'acme43'; there are acme42, .*lakeshore336"):
        driver("acme43", ["acme"])


def test_a_plug_in_cannot_take_the_name_of_an_instrument_of_ours(install: Install) -> None:
    install(GOOD.replace("acme42", "lakeshore336"))

    assert driver("lakeshore336", ["acme"]).__module__ == "coldframe.drivers.lakeshore"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import vendor_dll_that_is_not_here", "ModuleNotFoundError: No module named"),
        ("raise OSError('no libvendor.so')", "OSError: no libvendor.so"),
        ("1 / 0", "ZeroDivisionError"),
        ("def half a sentence", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("", "AttributeError"),
        ("Meter = 7", "is no Driver"),
        ("class Meter: models = ('acme42',)", "is no Driver"),
    ],
)
def test_a_bad_plug_in_refuses_the_laboratory_with_file_line_and_reason(
    install: Install, tmp_path: Path, text: str, why: str
) -> None:
    install(text)
    lab = tmp_path / "lab.toml"
    lab.write_text(LAB)
    lab.chmod(0o644)

    with pytest.raises(ConfigurationError, match="plug-in 'acme'") as refused:
        load(lab)

    assert f"{lab}:6: device.meter.model" in str(refused.value)
    assert why in str(refused.value)
