"""The gates of the unit file, where systemd is: it verifies without a complaint, and exposes no more than agreed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPOSURE_TENTHS_MAX = 15
"""`systemd-analyze security` gives 0.0 (nothing to fear) to 10.0; the limit is 1.5."""


def gates(unit: Path) -> list[list[str]]:
    """The commands that must end with 0."""
    return [
        ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", str(unit)],
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE_TENTHS_MAX}",
            "--no-pager",
            str(unit),
        ],
    ]


def made(folder: Path) -> Path:
    """The unit as it is installed, for a prefix in which there is a Python."""
    python = folder / "lib/runtimed/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    unit = folder / "runtimed.service"
    unit.write_text((HERE / "runtimed.service").read_text(encoding="utf-8").replace("@PREFIX@", str(folder)))
    return unit


def main() -> int:
    """Run the gates; the first that fails says why."""
    if shutil.which("systemd-analyze") is None:
        print("systemd/runtimed.service was not checked: there is no systemd-analyze here")
        return 0
    with tempfile.TemporaryDirectory() as place:
        for command in gates(made(Path(place))):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = (done.stdout + done.stderr).strip()
            if done.returncode != 0 or (command[1] == "verify" and said):
                print(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
                return 1
            print(f"systemd-analyze {command[1]}: {said.splitlines()[-1] if said else 'nothing to complain about'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
