#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2024.4.15"]
# ///
"""What a contributor runs: `nox` for lint and tests, `nox -l` for the rest."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
GROUPS = nox.project.load_toml("pyproject.toml")

# Tests whose kernels also run without numba, and soon; tests/kernels/test_plain.py runs a scan so.
PLAIN_KERNELS = [
    f"tests/kernels/test_{name}.py"
    for name in ("frame", "geometry", "line_fit", "text", "traversal")
]


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(GROUPS, name)


@nox.session(default=True)
def lint(session: nox.Session) -> None:
    """Style, import contracts and types."""
    session.install("-e", ".[test]", *_group("dev"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")


@nox.session(default=True)
def tests(session: nox.Session) -> None:
    """The tests; arguments after `--` go to pytest, such as `-m 'not slow'`."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Coverage of lines; kernels are counted by their plain-Python runs."""
    session.install("-e", ".[gui-test,gdml]", "coverage[toml]>=7.10")
    pytest = ("coverage", "run", "-m", "pytest", "-m", "not slow")
    session.run("coverage", "erase")
    session.run(*pytest, *session.posargs)
    # Scalars of NumPy warn where compiled ones overflow to infinity, as the kernels expect.
    quiet = ("-W", "ignore::RuntimeWarning")
    session.run(*pytest, *quiet, *PLAIN_KERNELS, env={"NUMBA_DISABLE_JIT": "1"})
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation as a site, warnings as errors; `-- serve` to look at it."""
    session.install("-e", ".", *_group("docs"))
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # what mkdocs-material says of mkdocs 2
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]), env=quiet)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Speed and quality, as a table and JSON."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """The source archive and the wheel, in `dist/`."""
    session.install("build>=1.2")
    session.run("python", "-m", "build")


if __name__ == "__main__":
    nox.main()
