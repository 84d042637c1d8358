"""The registry: every name has a module that says what it imports, and none is imported before it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import s2igan.corpora
from s2igan.corpora.importers.source import Importer
from s2igan.corpora.registry import BUILT_IN, IMPORTERS, drawn_set, importer, overview
from s2igan.errors import UserError


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_name_has_an_importer(name):
    found = importer(name)
    assert isinstance(found, Importer)
    assert found.name == name
    assert found.title
    assert found.published
    assert len(found.layout.strip().splitlines()) >= 2


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_set_is_drawn(name):
    found = drawn_set(name)
    assert found.name == name
    assert BUILT_IN[name].classes >= found.min_classes


@pytest.mark.parametrize("name", IMPORTERS)
def test_another_layout_is_refused_in_a_sentence(name, tmp_path):
    (tmp_path / "notes.odt").write_bytes(b"nothing of use")
    from s2igan.corpora.importers.source import ReadOptions

    with pytest.raises(UserError, match=str(tmp_path)):
        importer(name).read(tmp_path, ReadOptions())


def test_the_list_shows_everything():
    text = overview()
    for name in (*BUILT_IN, *IMPORTERS):
        assert f"\n{name}: " in text
    assert text.count("  published: ") == text.count("  expected:") == len(IMPORTERS)


def test_every_importer_is_registered():
    """One that has a module and a section in the documents, but no command, is of no use."""
    folder = Path(s2igan.corpora.__file__).parent / "importers"
    modules = {path.stem for path in folder.glob("*.py") if "\nIMPORTER = " in path.read_text(encoding="utf-8")}
    assert {name.replace("-", "_") for name in IMPORTERS} == modules


def test_nothing_is_imported_before_it_is_asked_for():
    program = (
        "import sys\nfrom s2igan.corpora.registry import IMPORTERS\n"
        "print([name for name in IMPORTERS if 's2igan.corpora.importers.' + name.replace('-', '_') in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_name_that_is_none():
    with pytest.raises(UserError, match=r"no corpus 'cup' to import; choose one of folder, cub, "):
        importer("cup")


def test_a_broken_module_is_not_hidden(monkeypatch):
    monkeypatch.setattr("s2igan.corpora.registry.IMPORTERS", ("no_such_module",))
    with pytest.raises(ModuleNotFoundError):
        importer("no_such_module")
