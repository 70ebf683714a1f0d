"""Loading: apps are found by module and by file, and each mistake is one line that says where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimed import siblings
from runtimed.loading import LoadError, load_apps

APP = "from actors.flow.definitions import App\napp = App('shop')\n"


@pytest.fixture(autouse=True)
def _clean_imports(tmp_path: Path) -> Iterator[None]:
    """A test's modules and folders are forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path_importer_cache.clear()


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refused(name: str, cwd: Path) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_apps([name], cwd)
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["flows_a:app", "flows_a", "flows_a.py", "flows_a.py:app", "./flows_a.py"])
def test_an_app_is_found_by_module_and_by_file(tmp_path: Path, name: str) -> None:
    """Module or file, with or without the app's name."""
    written(tmp_path, "flows_a.py", APP)

    assert [app.name for app in load_apps([name], tmp_path)] == ["shop"]
    assert sys.path[-1] == str(tmp_path)
    assert sys.path[0] != str(tmp_path)


def test_a_file_elsewhere_finds_its_neighbours(tmp_path: Path) -> None:
    """A file in another folder may import what lies beside it; a file in a package is a part of it."""
    written(tmp_path, "one/helper_one.py", "NAME = 'one'\n")
    written(tmp_path, "one/flows_b.py", "from helper_one import NAME\n" + APP)
    written(tmp_path, "two/pack_c/__init__.py", "")
    written(tmp_path, "two/pack_c/names.py", "NAME = 'two'\n")
    written(tmp_path, "two/pack_c/flows.py", "from .names import NAME\n" + APP)

    loaded = load_apps(["one/flows_b.py", str(tmp_path / "two/pack_c/flows.py")], tmp_path)

    assert len(loaded) == 2
    assert "pack_c.flows" in sys.modules


def test_an_app_named_twice_is_loaded_once(tmp_path: Path) -> None:
    """The same App under two names is one App."""
    written(tmp_path, "flows_d.py", APP + "also = app\n")

    assert len(load_apps(["flows_d", "flows_d:also", "flows_d.py"], tmp_path)) == 1


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """A missing module and a missing file are named, with where they were looked for."""
    assert f"no module 'absent_x' in {tmp_path}" in str(refused("absent_x:app", tmp_path))
    assert f"no file {tmp_path}/absent.py" in str(refused("absent.py:app", tmp_path))
    assert "neither a module's name nor a file" in str(refused("not-a-module", tmp_path))


def test_no_app_lists_what_is_there(tmp_path: Path) -> None:
    """A module without an App says what it has instead."""
    written(tmp_path, "flows_e.py", "import os\nclass Order: ...\ndef checkout(): ...\n_hidden = 1\n")

    error = refused("flows_e.py", tmp_path)

    assert "no App in" in str(error)
    assert "it has Order (a class), checkout (a function)" in str(error)
    assert "runtimed.App(" in error.hint


def test_several_apps_ask_which(tmp_path: Path) -> None:
    """Two Apps and no name: the names to choose from are in the hint; a wrong name lists them too."""
    written(tmp_path, "flows_f.py", APP + "other = App('other')\n")

    assert refused("flows_f.py", tmp_path).hint == "Say which: flows_f.py:app, flows_f.py:other."
    assert "has no 'nope'; its Apps are: app, other" in str(refused("flows_f.py:nope", tmp_path))
    assert "'App' is a class, not an App" in str(refused("flows_f:App", tmp_path))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ny = undefined_name\n", 2, "NameError: name 'undefined_name' is not defined"),
        ("def broken(:\n", 1, "SyntaxError:"),
        ("import nowhere_to_be_found\n", 1, "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError: Expecting property name"),
        ("raise ValueError('two\\nlines')\n", 1, "ValueError: two lines"),
        (APP + "@app.step\ndef s(): ...\n@app.step(name='s')\ndef t(): ...\n", 5, "DuplicateName: "),
    ],
)
@pytest.mark.parametrize("form", ["{}.py", "{}:app"])
def test_a_module_that_raises_is_one_line_with_its_place(
    tmp_path: Path, text: str, line: int, said: str, form: str
) -> None:
    """What a user's module raises is told with file and line of the user's own code, and leaves no half module."""
    file = written(tmp_path, "flows_g.py", text)

    message = str(refused(form.format("flows_g"), tmp_path))

    assert message.startswith(f"{file}:{line}: ")
    assert said in message
    assert "flows_g" not in sys.modules


def test_annotations_are_checked_at_load(tmp_path: Path) -> None:
    """A step whose annotations do not resolve is refused before anything runs."""
    text = "from __future__ import annotations\n" + APP + "@app.step\ndef s(x: Nowhere) -> None: ...\n"
    written(tmp_path, "flows_h.py", text)

    assert "flows_h.py: s: its annotations do not resolve" in str(refused("flows_h.py", tmp_path))


@pytest.mark.parametrize("name", ["actors", "wal", "tui", "runtimed"])
def test_a_users_module_with_a_name_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    """By module, by file, and when it merely lies in the folder: the four names are taken."""
    file = written(tmp_path, f"{name}.py", APP)
    written(tmp_path, "flows_i.py", APP)

    assert f"the name {name!r} belongs to a package of runtimed" in str(refused(f"{name}:app", tmp_path))
    assert f"the name {name!r} belongs to a package of runtimed" in str(refused(f"{name}.py", tmp_path))
    assert str(file) in str(refused("flows_i:app", tmp_path))


def test_a_folder_of_data_with_such_a_name_is_none_of_our_business(tmp_path: Path) -> None:
    """A folder `wal` without Python in it is not a module."""
    (tmp_path / "wal").mkdir()
    written(tmp_path, "flows_j.py", APP)

    assert len(load_apps(["flows_j.py"], tmp_path)) == 1


def test_a_file_that_would_hide_a_module_is_refused(tmp_path: Path) -> None:
    """A file named as a module of Python, or as one that is loaded from elsewhere, is refused by name."""
    written(tmp_path, "queue.py", APP)
    written(tmp_path, "msgspec.py", APP)

    assert "name of a module of Python itself" in str(refused("queue.py", tmp_path))
    assert "name of a module that is loaded already" in str(refused("msgspec.py", tmp_path))


def test_our_siblings_are_ours() -> None:
    """In a sound installation the check passes."""
    siblings.check_siblings()


@pytest.mark.slow
def test_a_shadowed_sibling_is_found_out(tmp_path: Path) -> None:
    """A user's actors.py in front of ours is named before anything of ours is imported."""
    written(tmp_path, "actors.py", "")
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program = f"{first}\nfrom runtimed.siblings import check_siblings\ncheck_siblings()"

    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)

    assert f"ImportError: runtimed needs its own package 'actors', but Python finds {tmp_path}/actors.py" in done.stderr
