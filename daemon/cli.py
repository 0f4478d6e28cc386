"""The command line: what a person types, turned into one call each.

Exit status: 0 done, 1 failed, 64 wrong usage, 75 already running, 78 configuration refused.
Imports stand inside the commands: `coldframe get` must not wait for HDF5 and matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coldframe import __version__
from coldframe.daemon import cli_client
from coldframe.daemon.show import Out
from coldframe.errors import AlreadyRunning, ColdframeError, ConfigurationError

FAILED, USAGE, RUNNING, REFUSED = 1, 64, 75, 78

app = typer.Typer(
    name="coldframe",
    help="Instrument control, interlocks and acquisition for cold, dose-limited, biased "
    "experiments. Protects specimen and instrument; it is no personnel-safety function.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli_client.add_to(app)

LabFile = Annotated[Path, typer.Argument(metavar="LAB.toml", help="the laboratory's file")]
Session = Annotated[Path, typer.Argument(metavar="SESSION.nxs", help="a session file")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        app(arguments)
    except SystemExit as done:  # typer has printed what there was to say
        return USAGE if done.code == 2 else int(done.code or 0)
    except ColdframeError as error:
        Out.error(error, as_json="--json" in arguments)
        if isinstance(error, ConfigurationError):
            return REFUSED
        return RUNNING if isinstance(error, AlreadyRunning) else FAILED
    except KeyboardInterrupt:
        return FAILED
    return 0


@app.command()
def serve(lab: LabFile, json: Json = False) -> None:
    """The service: owns the instruments of LAB.toml until it is told to stop."""
    from coldframe.daemon.configuration import load
    from coldframe.daemon.service import Service

    raise typer.Exit(Service(load(lab), as_json=json).run())


@app.command()
def check(lab: LabFile, json: Json = False) -> None:
    """Validate LAB.toml; print what each rule can do, each output's dead-man and reaction time."""
    from coldframe.daemon.check import report
    from coldframe.daemon.configuration import load

    Out(json).tables(report(load(lab)))


@app.command()
def simulate(
    what: Annotated[str, typer.Argument(metavar="MODEL | LAB.toml")],
    tcp: Annotated[
        int | None, typer.Option(help="TCP port on loopback; 0 takes a free one")
    ] = None,
    udp: Annotated[int | None, typer.Option(help="UDP port on loopback")] = None,
    serial: Annotated[Path | None, typer.Option(help="make this a link to a pty")] = None,
    speed: Annotated[float, typer.Option(help="lab seconds in one real second")] = 1.0,
    fault: Annotated[list[str] | None, typer.Option(help="a fault, on from the start")] = None,
    json: Json = False,
) -> None:
    """One instrument behind a real port, or every simulated instrument of a lab in one world.

    Prints `ready MODEL ADDRESS` when it listens, and runs until it is told to stop.
    """
    from coldframe.daemon import simulation

    chosen = [(n, v) for n, v in (("tcp", tcp), ("udp", udp), ("serial", serial)) if v is not None]
    if what.endswith(".toml"):
        if chosen or fault:
            raise typer.BadParameter("a laboratory's file says itself where its instruments are")
        simulation.laboratory(Path(what), speed=speed, as_json=json)
        return
    if len(chosen) != 1:
        raise typer.BadParameter("say where: --tcp PORT, --udp PORT or --serial LINK")
    transport, where = chosen[0]
    simulation.instrument(
        what, transport, str(where), speed=speed, faults=tuple(fault or ()), as_json=json
    )


@app.command()
def host(
    lab: LabFile,
    device: Annotated[list[str], typer.Argument(metavar="DEVICE …")],
    json: Json = False,
) -> None:
    """Device hosts for devices that LAB.toml says are hosted elsewhere; they dial in to the
    service that runs here."""
    from coldframe.daemon.configuration import load
    from coldframe.daemon.service import run_hosts

    raise typer.Exit(run_hosts(load(lab), device))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the session file and the picture")] = Path(
        "demo"
    ),
    speed: Annotated[float, typer.Option(help="scale the demonstration's speeds by this")] = 1.0,
    json: Json = False,
) -> None:
    """A simulated lab on loopback, the experiment of the README, a session file, a picture."""
    from coldframe.daemon.demo import run_demo

    raise typer.Exit(run_demo(out, speed, Out(json)))


@app.command()
def replay(
    session: Session,
    speed: Annotated[float, typer.Option(help="1: as it was; 10: faster; 0: no waiting")] = 1.0,
    json: Json = False,
) -> None:
    """The same messages under the same topics, byte for byte."""
    from coldframe.daemon.replay import run_replay

    raise typer.Exit(run_replay(session, speed, Out(json)))


@app.command()
def verify(session: Session, json: Json = False) -> None:
    """Look for flipped bytes, gaps and streams of unequal length; exit 1 if there are any."""
    from coldframe.daemon import session_reader

    problems = session_reader.verify(session)
    Out(json).problems(session, [str(problem) for problem in problems])
    raise typer.Exit(FAILED if problems else 0)


@app.command()
def info(session: Session, json: Json = False) -> None:
    """What a session file holds."""
    from coldframe.daemon import session_reader

    Out(json).tree(session_reader.info(session))


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    Out(json).value({"version": __version__})
