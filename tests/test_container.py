"""The image, without an engine: what its files promise, and its steps and its entry point tried as far as that goes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtimed.settings import Settings, load

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICE: dict[str, Any] = COMPOSE["services"]["runtimed"]
SANDBOX = ROOT / "tests" / "system" / "readonly_root.sh"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def of(kind: str) -> list[str]:
    """The arguments of all instructions of a kind."""
    return [rest for name, rest in instructions() if name == kind]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the stage that becomes the image."""
    begins = max(at for at, (name, _) in enumerate(instructions()) if name == "FROM")
    return instructions()[begins:]


def copied() -> set[str]:
    """What the build stage takes from the source tree."""
    parts = [rest.split()[:-1] for rest in of("COPY") if "--from=" not in rest]
    return {source for sources in parts for source in sources}


def test_two_stages_and_nothing_from_the_net_but_packages() -> None:
    """Slim twice, no ADD, no shell download, no system packages; what pip installs is hashed, or is our own wheel."""
    assert of("FROM") == ["python:3.13-slim AS build", "python:3.13-slim"]
    assert of("ADD") == []
    assert not re.search(r"\b(curl|wget|apt-get|apk|git)\b", "\n".join(of("RUN")))
    installs = re.findall(r"pip install ([^&]+)", "\n".join(of("RUN")))
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-deps /dist/" in each for each in installs)


def test_what_the_wheel_needs_is_copied_and_nothing_else() -> None:
    """All packages of the wheel and what builds it; not the tests, not the repository."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    needed = {*tool["wheel"]["packages"], "pyproject.toml", "README.md", "LICENSE"}
    assert copied() == needed | {"requirements/runtime.txt", "requirements/dev.txt"}
    assert all((ROOT / source).exists() for source in copied())
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not any(source.split("/")[0] in ignored for source in copied())


def test_the_image_is_that_of_a_careful_service() -> None:
    """Non-root by number, one volume that only it reads, SIGTERM, a health check of our own, no shell in between."""
    image = dict(last_stage())
    assert image["USER"] == "65532:65532"
    assert image["STOPSIGNAL"] == "SIGTERM"
    assert of("VOLUME") == ["/var/lib/runtimed"]
    assert "install -d -m 0700 -o 65532 -g 65532 /var/lib/runtimed" in image["RUN"]
    assert image["HEALTHCHECK"].endswith('CMD ["runtimed", "status", "-q"]')
    assert json.loads(image["ENTRYPOINT"]) == ["runtimed"]
    assert json.loads(image["CMD"]) == ["serve"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', image["LABEL"]))
    assert labels["licenses"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert {"title", "description", "base.name"} <= set(labels)
    order = [name for name, _ in last_stage()]
    assert order.index("RUN") < order.index("USER")  # nothing runs as root after it


def test_compose_takes_every_right_away_that_the_image_does_not_need() -> None:
    """Read-only root, no capabilities, no new privileges, one volume, a drain that is never cut off."""
    assert SERVICE["read_only"] is True
    assert SERVICE["user"] == dict(last_stage())["USER"]
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    writable = [volume for volume in SERVICE["volumes"] if not volume.endswith(":ro")]
    assert writable == ["data:/var/lib/runtimed"]
    assert "ports" not in SERVICE  # Traefik reaches it, nobody else
    assert SERVICE["healthcheck"]["test"] == ["CMD", "runtimed", "status", "-q"]
    assert set(COMPOSE["volumes"]) == {"data"}
    assert {each["target"] for each in SERVICE["secrets"]} == {"runtimed_master_key"}


def test_the_settings_in_compose_are_settings() -> None:
    """Each variable is one that the daemon knows; Traefik looks often enough to have looked away in `drain_delay`."""
    given = SERVICE["environment"]
    settings: Settings = load(None, {"STATE_DIRECTORY": "/x", **given})
    assert settings.http.address == ("0.0.0.0", 8080)
    labels = SERVICE["labels"]
    balancer = "traefik.http.services.runtimed.loadbalancer"
    assert labels[f"{balancer}.server.port"] == str(settings.http.address[1])
    assert labels[f"{balancer}.healthcheck.path"] == "/health/ready"
    assert settings.http.hosts == tuple(re.findall(r"Host\(`(.+?)`\)", labels["traefik.http.routers.runtimed.rule"]))
    looks_s = float(labels[f"{balancer}.healthcheck.interval"].removesuffix("s"))
    assert looks_s < settings.daemon.drain_delay
    stops_s = float(SERVICE["stop_grace_period"].removesuffix("s"))
    assert stops_s > settings.daemon.drain_delay + settings.daemon.drain_timeout + 1


@pytest.mark.slow
def test_its_steps_make_an_image_that_runs_read_only(tmp_path: Path) -> None:
    """The build's own step on just what it copies gives a wheel that is whole; installed apart, it serves as 65532 on a
    read-only root with only the volume writable, its health check passes, and SIGTERM ends it with 0."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("a root folder of its own needs root, unshare and setpriv")
    source, image, data = tmp_path / "src", tmp_path / "image", tmp_path / "data"
    for name in copied():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():  # without the bytecode, which tests beside us write under names that do not last
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, target)
    pip = [sys.executable, "-P", "-m", "pip", "-qq", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(image), str(wheel)], check=True)
    data.mkdir()
    os.chown(data, 65532, 65532)
    data.chmod(0o700)
    environ = {
        "PATH": os.environ["PATH"], "IMAGE": str(image), "DATA": str(data), "PYTHON": sys.base_prefix,
        "PACKAGES": sysconfig.get_path("purelib"), "VERSION": f"{sys.version_info.major}.{sys.version_info.minor}",
        "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "sh", str(SANDBOX)],
        env=environ, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"no mounts here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert said == {"root": "read-only", "healthy": "0", "ended": "0", "uid": "65532"}
    assert {path.name for path in data.iterdir()} >= {"journal.db", "ballast", "lock"}
