"""Where a module of one's own is found, and what it held."""

import sys

import pytest

from ensembler.errors import RequestError
from ensembler.own_code import digest_of, load_own, source_of


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("ownmod_")]:
        del sys.modules[name]


def test_a_module_is_found_without_being_run(folder):
    (folder / "ownmod_a.py").write_text("1 / 0")
    (folder / "ownmod_p").mkdir()
    (folder / "ownmod_p" / "__init__.py").write_text("1 / 0")
    (folder / "ownmod_p" / "inner.py").write_text("1 / 0")
    assert source_of("ownmod_a:f", [folder]) == folder / "ownmod_a.py"
    assert source_of("ownmod_p.inner:f", [folder]) == folder / "ownmod_p" / "inner.py"
    assert source_of("ownmod_p.other:f", [folder]) is None
    assert source_of("ownmod_a:f") is None
    assert source_of("sys:exit") is None


def test_folders_are_on_the_path_only_while_the_module_is_imported(folder):
    (folder / "ownmod_b.py").write_text("import ownmod_c\nf = ownmod_c.f")
    (folder / "ownmod_c.py").write_text("f = 3")
    before = list(sys.path)
    assert load_own("ownmod_b:f", "step", [folder]) == 3
    assert sys.path == before
    assert load_own("ownmod_b:f", "step") == 3  # it is there now
    with pytest.raises(
        RequestError, match="there is no module 'ownmod_d': it is neither installed nor in"
    ):
        load_own("ownmod_d:f", "step", [folder])
    assert sys.path == before


def test_a_digest_is_of_the_file_and_of_a_package_of_all_its_files(folder):
    (folder / "ownmod_p").mkdir()
    (folder / "ownmod_p" / "__init__.py").write_text("")
    (folder / "ownmod_p" / "net.py").write_text("f = 1")
    other = folder / "other"
    other.mkdir()
    (other / "ownmod_p").mkdir()
    (other / "ownmod_p" / "__init__.py").write_text("g = 1")
    (other / "ownmod_p" / "net.py").write_text("f = 1")
    one, two = (digest_of("ownmod_p.net:f", (f,)) for f in (folder, other))
    assert one is not None
    assert one != two  # a file of the package that is not named differs
    assert digest_of("sys:exit") is None


def test_a_digest_is_of_what_was_imported_whatever_the_file_holds_later(folder):
    (folder / "ownmod_e.py").write_text("f = 1")
    load_own("ownmod_e:f", "step", [folder])
    before = digest_of("ownmod_e:f")
    (folder / "ownmod_e.py").write_text("f = 2")
    assert digest_of("ownmod_e:f") == before


def test_an_installed_module_counts_by_its_file_alone():
    assert digest_of("torch.hub:load") is not None
