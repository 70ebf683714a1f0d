"""Put the daemon into the system: `install.py [--destdir DIR] [--prefix DIR] [--python FILE] [--no-package]`.

What it writes, below DESTDIR:

    PREFIX/lib/runtimed/                      an environment of its own: pinned and hashed requirements, and our wheel
    PREFIX/bin/runtimed                       the command
    PREFIX/lib/systemd/system/                the unit
    PREFIX/lib/sysusers.d/, tmpfiles.d/       its user and its folders
    PREFIX/share/doc/runtimed/                the docs, with alerts, dashboard and runbook
    /etc/runtimed/runtimed.toml               only if there is none: yours is never touched

The environment is made from a Python that the service can see: one below a home folder (pyenv, uv) is not.

It starts nothing and makes no user; it says what to run next. Run it by the Python of the project's `.venv`, which has
what builds the wheel without a network. A second run brings everything up to date, for an upgrade.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "systemd"
OLDEST = (3, 11)
HIDDEN = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")
SYSTEM_PYTHONS = ("/usr/local/bin/python3", "/usr/bin/python3")
NEXT = """
Next, as root:
    systemd-sysusers && systemd-tmpfiles --create
    systemctl daemon-reload
    systemctl enable --now runtimed
    systemctl status runtimed
"""


def render(template: Path, prefix: Path) -> str:
    """A file of this folder for a prefix."""
    return template.read_text(encoding="utf-8").replace("@PREFIX@", str(prefix))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """One file in place, whole or not at all: a running manager may be reading the former one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)


def install_files(destdir: Path, prefix: Path) -> None:
    """Everything but the package."""
    inside = destdir / prefix.relative_to("/")
    write(inside / "lib/systemd/system/runtimed.service", render(HERE / "runtimed.service", prefix))
    write(inside / "lib/sysusers.d/runtimed.conf", render(HERE / "sysusers.conf", prefix))
    write(inside / "lib/tmpfiles.d/runtimed.conf", render(HERE / "tmpfiles.conf", prefix))
    write(inside / "bin/runtimed", render(HERE / "runtimed.sh", prefix), 0o755)
    docs = inside / "share/doc/runtimed"
    for page in (*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "ops").glob("*")), ROOT / "LICENSE"):
        write(docs / page.name, page.read_text(encoding="utf-8").replace("](../ops/", "]("))  # all in one folder here
    config = destdir / "etc/runtimed/runtimed.toml"
    if not config.exists():
        write(config, (ROOT / "config/runtimed.toml").read_text(encoding="utf-8"))


def is_usable(python: Path) -> bool:
    """Whether the service can run it: not hidden by ProtectHome= or PrivateTmp=, new enough, with venv."""
    real = python.resolve()
    if not real.exists() or any(real.is_relative_to(folder) for folder in HIDDEN):
        return False
    check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([real, "-c", check], capture_output=True, check=False).returncode == 0


def find_python(named: Path | None) -> Path:
    """The Python for the service: the one that is named, else ours, else the system's. Raises OSError."""
    candidates = [named] if named else [Path(sys.base_prefix) / "bin/python3", *map(Path, SYSTEM_PYTHONS)]
    for python in candidates:
        if is_usable(python):
            return python
    looked = ", ".join(map(str, candidates))
    raise OSError(
        f"no Python for the service (looked at {looked}): {'.'.join(map(str, OLDEST))} or newer, with venv, "
        f"and not below {', '.join(HIDDEN)}, where the service sees nothing; name one with --python"
    )


def install_package(destdir: Path, prefix: Path, python: Path) -> None:
    """The environment, made beside the one that may be in use and then put in its place.

    It is called by `python -m`, so that no path inside it names where it was made. Raises CalledProcessError."""
    place = destdir / prefix.relative_to("/") / "lib/runtimed"
    fresh, former = place.with_name("runtimed.new"), place.with_name("runtimed.old")
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", "--clear", "--symlinks", str(fresh)], check=True)
    pip = [str(fresh / "bin/python"), "-m", "pip", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--require-hashes", "-r", str(ROOT / "requirements/runtime.txt")], check=True)
    subprocess.run([*pip, "install", "--no-deps", str(build_wheel(fresh))], check=True)
    shutil.rmtree(former, ignore_errors=True)
    if place.exists():
        place.rename(former)
    fresh.rename(place)
    shutil.rmtree(former, ignore_errors=True)


def build_wheel(folder: Path) -> Path:
    """Our wheel in `folder`, built by the hatchling of the environment that runs this: no network, no isolation."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        build = ["pip", "-qq", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, str(ROOT)]
        subprocess.run([sys.executable, "-P", "-m", *build], check=True)
        (wheel,) = Path(place).glob("*.whl")
        return wheel.rename(folder / wheel.name)


def main() -> int:
    """Install, and say what to do next."""
    options = argparse.ArgumentParser(description="Put the daemon into the system.")
    options.add_argument("--destdir", type=Path, default=Path("/"), help="write below this folder, as packagers do")
    options.add_argument("--prefix", type=Path, default=Path("/usr/local"), help="where the files will be found")
    options.add_argument("--python", type=Path, help="the Python that the service runs on")
    options.add_argument("--no-package", action="store_true", help="leave the Python environment to somebody else")
    given = options.parse_args()
    if not given.prefix.is_absolute():
        options.error("--prefix must be absolute, such as /usr/local")
    destdir = given.destdir.absolute()
    try:
        if not given.no_package:
            install_package(destdir, given.prefix, find_python(given.python))
        install_files(destdir, given.prefix)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"not installed: {error}", file=sys.stderr)
        return 1
    print(f"installed below {destdir}, for {given.prefix}{NEXT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
