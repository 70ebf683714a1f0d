from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from runtimed.cli.main import run
from runtimed.connectors import singer
from runtimed.connectors.installing import InstallFailed, check_requirement, install, installed
from tests.runtimed.connectors.driving import World, settings

SOURCE = """
import json
def main():
    for message in (
        {{"type": "SCHEMA", "stream": "s", "schema": {{}}, "key_properties": ["id"]}},
        {{"type": "RECORD", "stream": "s", "record": {{"id": 1, "version": "{version}"}}}},
        {{"type": "STATE", "value": 1}},
    ):
        print(json.dumps(message))
"""


def wheel(folder: Path, version: str) -> Path:
    """A wheel of a tap with one command, written by hand: no build, no network."""
    about = f"tap_tiny-{version}.dist-info"
    files = {
        "tap_tiny.py": SOURCE.format(version=version),
        f"{about}/METADATA": f"Metadata-Version: 2.4\nName: tap-tiny\nVersion: {version}\nLicense-Expression: MIT\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\ntap-tiny = tap_tiny:main\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
    path = folder / f"tap_tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.mark.trio
@pytest.mark.slow
async def test_a_tap_is_installed_used_and_replaced(tmp_path: Path) -> None:
    """A tap gets an environment of its own, recorded with version, hash and licence, and its command is found there. A
    new version takes its place; one that fails (a wrong hash) changes nothing."""
    folder, said = tmp_path / "crm", []
    one, two = wheel(tmp_path, "1.0"), wheel(tmp_path, "2.0")
    digest = hashlib.sha256(one.read_bytes()).hexdigest()
    made = install(folder, [f"{one} --hash=sha256:{digest}"], said.append)
    tiny = next(package for package in made.packages if package.name == "tap-tiny")
    assert (tiny.version, tiny.licence, len(tiny.record_sha256)) == ("1.0", "MIT", 64)
    assert (installed(folder), json.loads((folder / "installed.json").read_text())["python"]) == (made, made.python)
    assert said == ["making a virtual environment", f"installing {one}"]
    tap = World(singer.make("crm", settings("singer", command=["tap-tiny"])), folder)
    await tap.poll()
    assert tap.stored["s"]["1"]["version"] == "1.0"

    with pytest.raises(InstallFailed, match=r"(?i)do not match the hashes"):
        install(folder, [f"{two} --hash=sha256:{digest}"], said.append)
    assert installed(folder) == made
    await tap.poll()
    assert tap.stored["s"]["1"]["version"] == "1.0"

    install(folder, [str(two)], said.append)
    await tap.poll()
    assert tap.stored["s"]["1"]["version"] == "2.0"
    assert sorted(path.name for path in (folder / "environments").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("requirement", ["", "-r other.txt", "--pre", "x==1 --pre", "x==1\n--pre", "x --hash=md5:00"])
def test_a_requirement_is_no_option(requirement: str) -> None:
    """Nothing but a requirement and its hashes reaches pip."""
    with pytest.raises(InstallFailed):
        check_requirement(requirement)


def test_the_verb_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that leads out of the data folder, nothing to install, a requirement that is an option: each is refused
    before anything is made."""
    where = ["--data-dir", str(tmp_path)]
    assert run(["connectors", "install", "../crm", "--requirement", "x==1", *where]) == 2
    assert run(["connectors", "install", "crm", *where]) == 2
    assert "say --requirement PKG==VER" in capsys.readouterr().err
    assert run(["connectors", "install", "crm", "--requirement=--pre", *where]) == 1
    assert "is no requirement" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_never_installed(tmp_path: Path) -> None:
    """Nothing is known of a connector without an environment; a broken record is told."""
    assert installed(tmp_path) is None
    (tmp_path / "installed.json").write_text("{", encoding="utf-8")
    with pytest.raises(InstallFailed, match="cannot be read"):
        installed(tmp_path)
    with pytest.raises(InstallFailed, match="0 requirements"):
        install(tmp_path, [], print)
