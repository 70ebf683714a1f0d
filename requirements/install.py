"""Make a virtual environment from a pinned and hashed file: `install.py FOLDER REQUIREMENTS [--project]`.

The Makefile runs it with the system's Python, so it needs the standard library only and says so where that is too old.
Two of it at once wait for each other; one that was interrupted is made anew. `FOLDER/.ready` says that it is whole.
"""

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def pip(folder: Path, *arguments: str) -> None:
    """Run the environment's pip; raises CalledProcessError."""
    subprocess.run([folder / "bin" / "python", "-m", "pip", "-qq", *arguments], check=True)


def is_ready(folder: Path, sources: list[Path]) -> bool:
    """Whether the environment is whole and newer than what it is made from."""
    ready = folder / ".ready"
    return ready.exists() and all(ready.stat().st_mtime >= source.stat().st_mtime for source in sources)


def install(folder: Path, requirements: Path, *, project: bool) -> None:
    """Make the environment, unless somebody else has just done so."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(folder, [requirements, *([ROOT / "pyproject.toml"] if project else [])]):
            return
        print(f"setting up {folder.name} (once) ...", flush=True)
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
        pip(folder, "install", "--require-hashes", "-r", str(requirements))
        if project:
            pip(folder, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        (folder / ".ready").touch()


def main() -> int:
    """Check the Python that runs this, then install."""
    if sys.version_info < OLDEST:
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; try: make PYTHON=python3.12")
        return 1
    folder, requirements = (Path(argument).resolve() for argument in sys.argv[1:3])
    try:
        install(folder, requirements, project="--project" in sys.argv[3:])
    except subprocess.CalledProcessError as error:
        print(f"{error}\nIs the venv module whole? Some distributions have it apart: python3-venv, python3-pip.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
