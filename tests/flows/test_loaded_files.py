"""A command names the files of others before it loads them."""

from __future__ import annotations

import io
import zipfile

import pytest

from activarium.flows import output
from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import LOADING, load_entry_point
from activarium.tasks.models.export_files import read_export_file


@pytest.fixture
def told(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(output.err, "file", stream)
    before = [*LOADING.handlers]
    with output.telling_what_is_loaded():
        assert LOADING.handlers != before
        yield lambda: stream.getvalue().splitlines()


@pytest.mark.parametrize("package", [False, True])
def test_entry_point__its_file_is_named_once_and_before_it_runs(tmp_path, told, package):
    name = f"of_others_{package}"
    file = tmp_path / name / "__init__.py" if package else tmp_path / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise ValueError('it ran')\n", encoding="ascii")
    for _ in range(2):
        with pytest.raises(UserError, match="it ran"):
            load_entry_point(f"{name}:build", folder=tmp_path, setting="model.architecture")
    where = file.parent if package else file
    assert told() == [f"note: model.architecture: running the code of {where}"]


def test_entry_point__that_is_nowhere_runs_nothing(tmp_path, told):
    with pytest.raises(UserError, match="cannot import"):
        load_entry_point("no_such_module_x:build", folder=tmp_path, setting="test_set.source")
    assert told() == []


def test_exported_program__its_file_is_named(tmp_path, told):
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", "{}")
    with pytest.raises(UserError, match="is not loaded"):
        read_export_file(path)
    assert told() == [f"note: model.architecture: loading the program of {path}"]
