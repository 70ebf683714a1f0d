"""A virtual environment of its own for other people's connector, and a record of what is in it: version, hash, licence.

An environment is made beside the one in use and takes its place by one rename of a link, so that a connector never sees
half of one. The one before stays until the next time: a poll that is under way may still be running from it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from runtimed.connectors.child import own_environment
from runtimed.escape import escape
from wal.errors import RuntimedError

INSTALLED = "installed.json"
ENVIRONMENTS = "environments"
STEP_TIMEOUT_S = 900.0
REQUIREMENTS_MAX = 100
SAID_CHARACTERS_MAX = 2_000

# Runs in the new environment. A wheel's RECORD holds the hash of every file, so its own hash stands for all of them.
_LIST = """
import hashlib, json, sys
from importlib.metadata import distributions
found = []
for each in distributions():
    about = each.metadata
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License :: ")]
    licence = about.get("License-Expression") or "; ".join(classifiers) or about.get("License") or ""
    record = each.read_text("RECORD") or ""
    found.append({"name": about["Name"], "version": each.version, "licence": licence.strip()[:200],
                  "record_sha256": hashlib.sha256(record.encode()).hexdigest() if record else ""})
found.sort(key=lambda one: one["name"].lower())
json.dump({"python": sys.version.split()[0], "packages": found}, sys.stdout)
"""


class InstallFailed(RuntimedError):
    """A connector's environment could not be made; the one in use is untouched."""

    status = 502
    code = "install"
    exit_code = 1


class Package(msgspec.Struct, frozen=True):
    """A package of an environment. `record_sha256` is the digest of its RECORD, which lists the hash of each file."""

    name: str
    version: str
    licence: str = ""
    record_sha256: str = ""


class Installed(msgspec.Struct, frozen=True):
    """What a connector's environment holds, as it is written beside it."""

    python: str
    packages: list[Package]
    requirements: list[str] = []
    installed_at: str = ""
    environment: str = ""


def installed(folder: Path) -> Installed | None:
    """What was installed for the connector whose folder this is; None for nothing. Raises InstallFailed."""
    try:
        return msgspec.json.decode((folder / INSTALLED).read_bytes(), type=Installed)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise InstallFailed(f"{folder / INSTALLED} cannot be read: {error}") from None


def install(folder: Path, requirements: Sequence[str], say: Callable[[str], None]) -> Installed:
    """Make an environment with these requirements and let it take the place of the one before.

    A requirement is what pip takes on a line of its file (`tap-x==1.2 --hash=sha256:...`, a wheel's path): with one
    hash, all need one. `say` is told each step. Raises InstallFailed, and then nothing has changed.
    """
    for requirement in requirements:
        check_requirement(requirement)
    if not 0 < len(requirements) <= REQUIREMENTS_MAX:
        raise InstallFailed(f"{len(requirements)} requirements; 1 to {REQUIREMENTS_MAX} are taken")
    home = folder / ENVIRONMENTS
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in home.iterdir() if path.name.isdecimal()), default=0)
    target = home / str(number)
    try:
        target.mkdir(mode=0o700)
    except FileExistsError:
        raise InstallFailed(f"{target} is being made already", hint="Wait for the other install.") from None
    try:
        say("making a virtual environment")
        own_pip = find_spec("pip") is not None  # then theirs needs none, which saves most of the time
        _run([sys.executable, "-I", "-m", "venv", *(["--without-pip"] if own_pip else []), str(target)])
        wanted = target / "requirements.txt"
        wanted.write_text("".join(f"{one}\n" for one in requirements), encoding="utf-8")
        say("installing " + ", ".join(one.split(" --")[0] for one in requirements))
        python = str(target / "bin" / "python")
        pip = [sys.executable, "-I", "-m", "pip", "--python", python] if own_pip else [python, "-I", "-m", "pip"]
        _run([*pip, "install", "--no-input", "--disable-pip-version-check", "--quiet", "-r", str(wanted)])
        found = msgspec.json.decode(_run([python, "-I", "-c", _LIST]), type=Installed)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)  # what is left of it is in nobody's way
        raise
    return _take_over(folder, target, found, requirements)


def check_requirement(requirement: str) -> None:
    """Raise InstallFailed unless this is one requirement, and no option to pip but hashes."""
    name, *options = requirement.strip().split(" --")
    if not name or name.startswith("-") or not requirement.isprintable():
        raise InstallFailed(f"{escape(requirement)!r} is no requirement", hint="Say it as NAME==VERSION.")
    if not all(re.fullmatch(r"hash=sha(256|384|512):[0-9a-f]+", option.strip()) for option in options):
        raise InstallFailed(f"{escape(requirement)!r}: only --hash=sha256:... may follow a requirement")


def _take_over(folder: Path, target: Path, found: Installed, requirements: Sequence[str]) -> Installed:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    made = msgspec.structs.replace(
        found, requirements=list(requirements), installed_at=now, environment=f"{ENVIRONMENTS}/{target.name}"
    )
    link, before = own_environment(folder), _resolved(own_environment(folder))
    fresh = folder / ".venv.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path(ENVIRONMENTS) / target.name)
    os.replace(fresh, link)
    draft = folder / f".{INSTALLED}.new"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    os.replace(draft, folder / INSTALLED)
    for path in target.parent.iterdir():
        if path not in (target, before):
            shutil.rmtree(path)
    return made


def _resolved(link: Path) -> Path | None:
    return link.parent / os.readlink(link) if link.is_symlink() else None


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=STEP_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"{Path(command[0]).name} did not run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-SAID_CHARACTERS_MAX:]
        raise InstallFailed(escape(said, keep="\n") or f"{Path(command[0]).name} ended with {done.returncode}")
    return done.stdout
