"""The checks in environments of their own: `nox -l` lists them.

nox -s tests-3.10 -- tests/test_units.py    some tests on one version of Python
"""

from __future__ import annotations

from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests", "lint", "docs", "wheel"]
nox.options.error_on_missing_interpreters = True


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the test suite, or what stands behind --."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes and for unformatted files."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site; a dead link is an error."""
    session.install("-e", ".[docs]")
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", session.create_tmp())


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist, the wheel from the sdist, and install each into an empty environment."""
    session.install("build")
    folder = Path(session.create_tmp())
    for old in folder.iterdir():
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(folder), ".", silent=True)
    for kind in ("*.whl", "*.tar.gz"):
        (package,) = folder.glob(kind)
        session.install("--force-reinstall", str(package))
        session.run("tmuxevolve", "--version")
        assert (Path(session.virtualenv.location) / "share/man/man1/tmuxevolve.1").stat().st_size
        session.run("pip", "uninstall", "--quiet", "--yes", "tmuxevolve")
