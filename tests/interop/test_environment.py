"""The environment of other people's software is made once, or says why it cannot be."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path, monkeypatch):
    path = Path(__file__).with_name("environment.py")
    spec = importlib.util.spec_from_file_location("environment_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module.REQUIREMENTS = tmp_path / "requirements.txt"
    module.REQUIREMENTS.write_text("")
    return module


def test_other_requirements_are_another_environment(environment):
    before = environment.folder()
    environment.REQUIREMENTS.write_text("# something else\n")
    assert environment.folder() != before
    assert environment.folder().parent == before.parent
    assert before.parent.name == "coldframe"


def test_what_cannot_be_installed_is_a_reason_and_not_an_environment(environment):
    environment.REQUIREMENTS.write_text("--no-index\nno-such-package==1.0\n")
    with pytest.raises(environment.Unavailable, match=r"No matching distribution.*no-such"):
        environment.interpreter()
    assert not (environment.folder() / "ready").exists()


def test_an_environment_is_made_once(environment):
    python = environment.interpreter()
    made = python.stat().st_ctime_ns, (environment.folder() / "ready").stat().st_mtime_ns
    assert environment.interpreter() == python
    assert (python.stat().st_ctime_ns, (environment.folder() / "ready").stat().st_mtime_ns) == made


def test_a_cache_that_cannot_be_written_is_a_reason(environment, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(environment.Unavailable, match="Not a directory"):
        environment.interpreter()


def test_the_readers_of_session_files_are_there(interop_python, there):
    versions = there("versions.py", "hyperspy", "libertem", "nexusformat", "h5py", "lakeshore")
    assert versions["hyperspy"] == "2.5.0"
