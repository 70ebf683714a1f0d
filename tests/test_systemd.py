"""The service of a real host: the unit holds its gates, and what is installed is whole and leaves the rest alone."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "runtimed.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def settings_of(text: str) -> dict[str, list[str]]:
    """What a unit's [Service] says: each name with its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def installed(destdir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`make install-systemd` into a folder, without the package: that needs an index."""
    command = [sys.executable, "-P", str(ROOT / "systemd" / "install.py"), "--destdir", str(destdir), "--no-package"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


@needs_systemd
def test_the_unit_holds_its_gates() -> None:
    """`systemd-analyze verify --recursive-errors=yes` says nothing, and the exposure is 1.5 at most (P16)."""
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "systemd" / "check.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("systemd-analyze") == 2


@needs_systemd
def test_a_unit_that_exposes_more_is_caught(tmp_path: Path) -> None:
    """The negative control: without three of its lines the unit does not pass the same threshold."""
    kept = [
        line for line in UNIT.read_text().splitlines() if not line.startswith(("CapabilityB", "Protect", "SystemC"))
    ]
    weak = tmp_path / "runtimed.service"
    weak.write_text("\n".join(kept))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(weak)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_gates_are_skipped_with_a_sentence_where_systemd_is_not() -> None:
    """On a machine without systemd `make check` says so and goes on."""
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "systemd" / "check.py")],
        capture_output=True, text=True, check=False, env={"PATH": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 0
    assert "was not checked" in done.stdout


def test_the_unit_keeps_what_the_daemon_relies_on() -> None:
    """Callers are told apart by the kernel, the drain is never cut off, and a bad configuration is not tried again."""
    unit = settings_of(UNIT.read_text())
    assert unit["PrivateUsers"] == ["no"]  # else every caller reads as 65534
    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) > 10  # a writer that is late by less is not dead yet
    assert unit["KillMode"] == ["mixed"]  # the writer ends after the daemon's last commit, not beside it
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["LimitCORE"] == ["0"]  # the watchdog's SIGABRT would put secrets into a core file
    from runtimed.settings import Settings

    assert int(unit["TimeoutStopSec"][0]) > Settings().daemon.drain_timeout + 2 * 10
    assert "AF_NETLINK" not in unit["RestrictAddressFamilies"][0]
    assert unit["LoadCredential"] == [
        "runtimed_master_key",
        "runtimed_master_key_former",
        "runtimed_token_key",
    ]
    assert (unit["StateDirectoryMode"], unit["RuntimeDirectoryMode"]) == (["0700"], ["0750"])


def test_an_installation_below_a_folder_is_whole(tmp_path: Path) -> None:
    """DESTDIR gets every file, with the prefix put in, and nothing outside it is touched; root is not needed."""
    done = installed(tmp_path, "--prefix", "/opt/made")
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now runtimed" in done.stdout
    lib = tmp_path / "opt/made/lib"
    unit = (lib / "systemd/system/runtimed.service").read_text()
    assert "@PREFIX@" not in unit
    assert settings_of(unit)["ExecStart"] == ["/opt/made/lib/runtimed/bin/python -P -m runtimed serve"]
    assert (lib / "sysusers.d/runtimed.conf").read_text().splitlines()[-1].startswith("u runtimed ")
    assert "d /var/lib/runtimed 0700 runtimed runtimed" in (lib / "tmpfiles.d/runtimed.conf").read_text()
    command = tmp_path / "opt/made/bin/runtimed"
    assert stat.S_IMODE(command.stat().st_mode) == 0o755
    assert "/opt/made/lib/runtimed/bin/python -P -m runtimed" in command.read_text()
    assert (tmp_path / "etc/runtimed/runtimed.toml").read_text() == (ROOT / "config/runtimed.toml").read_text()
    docs = tmp_path / "opt/made/share/doc/runtimed"
    page = (docs / "operating.md").read_text()
    assert "[runbook](runbook.md)" in page  # beside it, once installed
    assert all(
        (tmp_path / "opt/made/share/doc/runtimed" / name).exists() for name in re.findall(r"\]\(([^:)#]+)", page)
    )
    assert "Apache License" in (tmp_path / "opt/made/share/doc/runtimed/LICENSE").read_text()
    assert not [path for path in tmp_path.rglob(".*.new")]


def test_an_upgrade_leaves_the_configuration_alone(tmp_path: Path) -> None:
    """A second installation renews what is ours and never what is yours."""
    assert installed(tmp_path).returncode == 0
    config, unit = tmp_path / "etc/runtimed/runtimed.toml", tmp_path / "usr/local/lib/systemd/system/runtimed.service"
    config.write_text('[log]\nlevel = "debug"\n')
    unit.write_text("# old")
    assert installed(tmp_path).returncode == 0
    assert config.read_text() == '[log]\nlevel = "debug"\n'
    assert "ExecStart" in unit.read_text()


def test_an_installation_that_cannot_be_says_why(tmp_path: Path) -> None:
    """A target that cannot be written ends with 1 and a sentence, a relative prefix with a usage error."""
    (tmp_path / "file").write_text("")
    refused = installed(tmp_path / "file")
    assert (refused.returncode, "not installed" in refused.stderr) == (1, True)
    assert installed(tmp_path, "--prefix", "usr/local").returncode == 2


@pytest.mark.parametrize(
    ("words", "given", "of_the_system"),
    [
        (["runs", "list", "a b"], {}, True),
        (["doctor"], {}, True),
        (["serve"], {}, False),
        (["-q", "-o", "json", "serve"], {}, False),
        (["--timeout", "5", "runs", "start", "serve"], {}, True),
        (["init", "x"], {}, False),
        (["status", "--data-dir", "data"], {}, False),
        (["status", "--data-dir", "/var/lib/runtimed"], {}, True),
        (["--data-dir=/var/lib/runtimed", "doctor"], {}, True),
        (["--data-dir", "/var/lib/runtimed", "serve"], {}, False),
        (["--socket=/s", "status"], {}, False),
        (["status"], {"RUNTIMED_SOCKET": "/mine.sock"}, False),
        (["status"], {"STATE_DIRECTORY": "/mine"}, False),
    ],
)
def test_the_command_is_about_the_systems_daemon_unless_it_is_told_otherwise(
    tmp_path: Path, words: list[str], given: dict[str, str], of_the_system: bool
) -> None:
    """The installed command passes all arguments on, and names the service's places only where nothing else was meant:
    root must not serve on the service's data by a slip."""
    assert installed(tmp_path, "--prefix", str(tmp_path / "made")).returncode == 0
    command = tmp_path / str(tmp_path).lstrip("/") / "made/bin/runtimed"
    python = tmp_path / "made/lib/runtimed/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "${STATE_DIRECTORY:-}" "${RUNTIME_DIRECTORY:-}"\n')
    python.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], **given}
    done = subprocess.run([command, *words], check=True, cwd=tmp_path, env=environ, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert said[:-2] == ["-P", "-m", "runtimed", *words]
    expected = ["/var/lib/runtimed", "/run/runtimed"] if of_the_system else [given.get("STATE_DIRECTORY", ""), ""]
    assert said[-2:] == expected
    (tmp_path / "runtimed.toml").write_text("")
    there = subprocess.run([command, *words], check=True, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert there.stdout.splitlines()[-1] == ""  # a project's folder: about that


def test_a_python_that_the_service_cannot_see_is_refused(tmp_path: Path) -> None:
    """One below a home folder or /tmp would fail at each start: it is refused with a sentence, before anything is
    written."""
    hidden = tmp_path / "python3"
    hidden.symlink_to("/bin/false")
    command = [sys.executable, "-P", str(ROOT / "systemd/install.py"), "--destdir", str(tmp_path / "root")]
    done = subprocess.run([*command, "--python", str(hidden)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no Python for the service" in done.stderr
    assert "--python" in done.stderr
    assert not (tmp_path / "root").exists()


def test_the_snippets_are_what_their_readers_expect() -> None:
    """sysusers.d and tmpfiles.d take lines of fields: each has as many as its type asks for."""
    users = [
        line.split(None, 3) for line in (ROOT / "systemd/sysusers.conf").read_text().splitlines() if line[0] != "#"
    ]
    assert [(fields[0], fields[1]) for fields in users] == [("u", "runtimed")]
    folders = [line.split() for line in (ROOT / "systemd/tmpfiles.conf").read_text().splitlines() if line[0] != "#"]
    assert all(len(fields) == 5 and fields[0] == "d" for fields in folders)


@needs_systemd
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not on this machine")
def test_the_snippets_work_below_a_folder(tmp_path: Path) -> None:
    """systemd-sysusers makes the user, and systemd-tmpfiles the folders, in an installation below a folder."""
    if os.geteuid() != 0:
        pytest.skip("making users below a folder needs root")
    assert installed(tmp_path, "--prefix", "/usr").returncode == 0
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "runtimed.conf"], check=True, capture_output=True)
    assert "\nruntimed:" in "\n" + (tmp_path / "etc/passwd").read_text()
    made = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", "runtimed.conf"], check=True, capture_output=True
    )
    assert made.stderr == b""
    assert stat.S_IMODE((tmp_path / "var/lib/runtimed").stat().st_mode) == 0o700
