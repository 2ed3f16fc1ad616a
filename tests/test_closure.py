"""The code that a result hangs on, found from the source."""

import sys

import pytest

from cl_vs_mim.core import closure as module
from cl_vs_mim.core.closure import closure, code_digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own, with what the closure has to follow and what it has to leave out."""
    files = {
        "__init__.py": "",
        "one.py": '"""Words."""\nfrom sample.two import f\n\n\ndef late():\n    from sample.parts import three\n',
        "two.py": 'DATA_FILES = ("words/page.txt",)\n\n\ndef f():\n    return 2  # a comment\n',
        "words/page.txt": "Dear reader",
        "words/other.txt": "not named",
        "parts/__init__.py": "",
        "parts/three.py": "import sample.quiet\nfrom . import four\nfrom ..five import Z\nX = 3\n",
        "parts/four.py": "X = 4\n",
        "five.py": "Z = 5\n",
        "quiet.py": "DECIDES_NO_RESULT = True\nfrom sample.apart import Y\n",
        "apart.py": "Y = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "sample" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "sample")
    yield tmp_path / "sample"
    forget()


def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "sample"]:
        del sys.modules[name]
    for name in ("_source", "_tree", "_decides", "_imports", "_exists", "_code", "_data_files"):
        getattr(module, name).cache_clear()


def test_it_follows_imports_wherever_they_stand_and_leaves_out_what_decides_nothing(package):
    found = {"one", "two", "five", "parts.three", "parts.four"}
    assert closure(["sample.one"]) == {f"sample.{name}" for name in found}


@pytest.mark.parametrize(
    "file, old, new, changes",
    [
        ("two.py", "return 2", "return 3", True),
        ("parts/three.py", "X = 3", "X = 4", True),
        ("parts/four.py", "X = 4", "X = 5", True),  # by an import relative to its package
        ("five.py", "Z = 5", "Z = 6", True),
        ("two.py", "# a comment", "# another comment", False),
        ("one.py", "Words.", "Other words.", False),
        ("quiet.py", "import Y", "import Y as Z", False),
        ("apart.py", "Y = 1", "Y = 2", False),
        ("words/page.txt", "Dear", "Good", True),
        ("words/other.txt", "not", "never", False),
    ],
)
def test_the_digest_changes_with_what_the_code_does(package, file, old, new, changes):
    before = code_digest("sample.one")
    path = package / file
    path.write_text(path.read_text().replace(old, new))
    forget()
    assert (code_digest("sample.one") != before) == changes


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"cl_vs_mim\.no_such"):
        code_digest("cl_vs_mim.no_such")


def test_an_objective_does_not_hang_on_another():
    assert "cl_vs_mim.pretrain.dino" not in closure(["cl_vs_mim.pretrain.trainer", "cl_vs_mim.pretrain.moco_v3"])
