"""The `muscan` command: its groups, its errors and its exit status."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Any

import typer
from typer.exceptions import Abort, TyperException

from muscan.cli.contents import Contents
from muscan.errors import InputError, MuscanError

OK, FAILED, WRONG_INPUT, ALERTED = 0, 1, 2, 3

app = typer.Typer(
    name="muscan",
    cls=Contents,
    help="Cosmic-muon tomography for scanners: simulate, track, reconstruct, identify, report.",
    epilog="Start with: muscan scan --out first-scan",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if version:
        from muscan import __version__

        print(f"muscan {__version__}")
        raise typer.Exit


def register() -> None:
    """Import the modules that add commands, which also brings what they need."""
    # They register commands.
    from muscan.cli import (  # noqa: F401
        calibration,
        chain,
        detectors,
        gdml,
        library,
        live,
        manifest,
        operator,
        study,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of the process's own.
    """
    register()
    warnings.showwarning = _note
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        status = app([word for word in given if word != "--debug"], standalone_mode=False)
        sys.exit(status if isinstance(status, int) else OK)
    except TyperException as error:
        _refuse(error, given, debug)
    except InputError as error:
        _fail(str(error), WRONG_INPUT, debug)
    except MuscanError as error:
        _fail(str(error), FAILED, debug)
    except (Abort, KeyboardInterrupt):
        _fail("interrupted; nothing half-written is left", FAILED, debug)
    except MemoryError:
        _fail("not enough memory; use larger --voxel or fewer muons at a time", FAILED, debug)
    except BrokenPipeError:
        sys.exit(FAILED)
    except PermissionError as error:
        _fail(f"{error.filename}: {error.strerror}; check its rights", WRONG_INPUT, debug)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}; --debug shows where", FAILED, debug)


def _refuse(error: TyperException, given: list[str], debug: bool) -> None:
    """Say in one line what is wrong with the options; show the help where nothing was given."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _named(given)
    if "Usage:" in message:
        print(message)
        sys.exit(WRONG_INPUT)
    _fail(f"{command}: {message.rstrip('.')}; see '{command} --help'", WRONG_INPUT, debug)


def _named(words: list[str]) -> str:
    """Return the command that the first words name, such as ``muscan scenes draw``."""
    command: Any = typer.main.get_command(app)
    path = ["muscan"]
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _note(message: Warning | str, *_: object, **__: object) -> None:
    print(f"muscan: note: {message}", file=sys.stderr)


def _fail(message: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print("muscan: error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
