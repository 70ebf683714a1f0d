"""Pin and hash what pyproject.toml asks for: `runtime.txt`, `dev.txt`, `bench.txt`, beside this file.

`make requirements` runs it in an environment that holds pip-tools. `dev.txt` holds everything that a checkout needs,
the runtime included, at the very versions of `runtime.txt`. No index address and no comment goes into the files: they
say what is wanted, not where somebody once got it from.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parent / "pyproject.toml"
OPTIONS = [
    "--quiet",
    "--upgrade",
    "--generate-hashes",
    "--strip-extras",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-emit-find-links",
    "--no-emit-options",
]


def pin(name: str, wanted: list[str], constraints: list[Path]) -> Path:
    """Resolve `wanted` under `constraints` into `requirements/<name>.txt`."""
    target = HERE / f"{name}.txt"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{name}.in")
        source.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        bounds = [word for path in constraints for word in ("--constraint", str(path))]
        command = [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            *OPTIONS,
            *bounds,
            "--output-file",
            str(target),
            str(source),
        ]
        subprocess.run(command, check=True)
    return target


def main() -> None:
    """Write the three files."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    runtime = project["project"]["dependencies"]
    groups = project["dependency-groups"]
    pinned = pin("runtime", runtime, [])
    extras = [wanted for group in project["project"]["optional-dependencies"].values() for wanted in group]
    pin("dev", runtime + extras + groups["dev"], [pinned])
    pin("bench", groups["bench"], [])


if __name__ == "__main__":
    main()
