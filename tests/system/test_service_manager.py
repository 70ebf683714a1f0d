"""The unit under a real systemd, booted in a container (P16); skipped with the reason where that cannot be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "tests" / "system" / "service_probe.sh"
CLONE, PYTHON, RESULTS = "/opt/clone", "/opt/python", "/opt/results"
BOOT_SECONDS_MAX = 240
ISOLATED = "[Unit]\nRequires=basic.target probe.service\nAfter=basic.target\nAllowIsolate=yes\n"
SERVICE = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nTimeoutStartSec=200\nExecStart=/opt/probe.sh\n"
CONFIG = (
    f'[daemon]\napps = ["{CLONE}/tests/system/daemon_flows.py:app"]\n[access.levels]\noperator = ["gid:runtimed"]\n'
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root folder: this system's, with everything that is written going into a layer of its own."""
    if os.geteuid() != 0:
        pytest.skip("booting a system needs root")
    for program in ("systemd-nspawn", "mount", "umount"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine")
    place = tmp_path_factory.mktemp("machine")
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    layers = f"lowerdir=/,upperdir={place}/upper,workdir={place}/work"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", layers, place / "root"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no overlay can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place / "root"
    finally:
        subprocess.run(["umount", "--lazy", place / "root"], check=True)


def furnish(root: Path) -> None:
    """Install the unit; in place of the environment that an index would fill, this one, at a place the unit may see."""
    command = [sys.executable, "-P", str(ROOT / "systemd/install.py"), "--destdir", str(root), "--no-package"]
    subprocess.run(command, check=True, capture_output=True)
    packages = Path(sysconfig.get_path("purelib"))
    path = f"{CLONE}:{CLONE}/{packages.relative_to(ROOT)}"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    files = {
        "usr/local/lib/runtimed/bin/python": f"#!/bin/sh\nexport LD_LIBRARY_PATH={PYTHON}/lib PYTHONPATH={path}\n"
        f'exec {PYTHON}/bin/python{version} "$@"\n',
        "etc/systemd/system/probe.service": SERVICE,
        "etc/systemd/system/probe.target": ISOLATED,
        "etc/runtimed/runtimed.toml": CONFIG,
        "etc/credstore/runtimed_master_key": "k" * 32,
        "opt/probe.sh": PROBE.read_text(),
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o600 if "credstore" in name else 0o755)


def booted(root: Path, results: Path) -> dict[str, Any]:
    """Boot it, let the probe run, and give what that found; it turns the machine off at its end."""
    command = ["systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit", "--private-network"]
    command += ["--machine=runtimed-test", f"--directory={root}", f"--bind={results}:{RESULTS}"]
    command += [f"--bind-ro={ROOT}:{CLONE}", f"--bind-ro={sys.base_prefix}:{PYTHON}", "systemd.unit=probe.target"]
    try:
        boot = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS_MAX, check=False
        )
        console = boot.stdout + boot.stderr
    except subprocess.TimeoutExpired as late:
        console = late.stdout or b""
    if not (results / "began").exists():
        pytest.skip(f"no system boots here: {console.decode(errors='replace')[-300:]!r}")
    log = (results / "log").read_text(errors="replace") if (results / "log").exists() else ""
    assert (results / "ended").exists(), f"the probe did not come to its end:\n{log[-3000:]}"
    return {file.name: file.read_text().strip() for file in results.iterdir()}


def test_the_service_starts_is_watched_reloads_and_stops(machine: Path, tmp_path: Path) -> None:
    """Booted with all its hardening: READY, the credential handed over, callers told apart by the kernel, a reload, a
    stuck daemon killed by the watchdog and started again with everything it had acknowledged, a clean stop."""
    furnish(machine)
    found = booted(machine, tmp_path)
    assert found["started"] == "active ready; /var/lib/runtimed"
    assert found["credential"] == f"runtimed {'k' * 32}"
    assert (
        found["modes"]
        == "700 runtimed /var/lib/runtimed\n750 runtimed /run/runtimed\n660 runtimed /run/runtimed/runtimed.sock"
    )
    assert json.loads(found["member"])["by"] == "uid:65000"  # not 65534, as with PrivateUsers=
    assert json.loads(found["member"])["level"] == "operator"
    assert json.loads(found["acknowledged"])["status"] == "completed"
    assert found["reloaded"] == "0"
    assert "reload refused" in found["refused"]
    assert found["after_refusal"] == "active"
    assert found["watchdog"] == "1 active"
    assert "Watchdog timeout" in found["journal"]
    assert json.loads(found["survived"]) == json.loads(found["acknowledged"])
    assert found["stopped"] == "success 0 inactive"
