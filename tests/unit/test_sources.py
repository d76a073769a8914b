"""The files of a library: its sources, its header, and what these include."""

from pathlib import Path

import pytest

from opproof import sources
from opproof.settings import Library

FILES = {
    "csrc/gelu.cpp": '#include "scalar.h"\n#include <cmath>\n#include <system.h>\n',
    "csrc/gelu.cu": ' #  include "scalar.h"  // twice\nint x;\n#include "loops/cuda.h"\n',
    "csrc/loops/cuda.h": '#include "../scalar.h"\n#include "beside.h"\n',
    "csrc/loops/beside.h": '#include "../loops/cuda.h"\n',
    "csrc/activations/gelu.h": '#include "scalar.h"\n#include "absent.h"\n#include "more.h"\n',
    "csrc/activations/more.h": "",
    "csrc/scalar.h": '// #include "unused.h"\nconst char* s = "#include \\"unused.h\\"";\n',
    "csrc/unused.h": "",
    "csrc/system.h": "",
    "mine/a.cpp": '#include "scalar.h"\n#include "b.h"\n#include "../c.h"\n#include "d"\n',
    "mine/b.h": "\xff not UTF-8",
    "mine/d/e.h": "",
    "c.h": "",
    "scalar.h": "not beside, nor in csrc/",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with sources of its own and those of the project."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CSRC", tmp_path / "csrc")
    return tmp_path


@pytest.mark.parametrize(
    ("library", "names"),
    [
        (Library("a", ("gelu.cpp",)), "gelu.cpp scalar.h"),
        (
            Library("b", ("gelu.cpp", "gelu.cu")),
            "gelu.cpp gelu.cu scalar.h loops/cuda.h loops/beside.h",
        ),
        (
            Library("c", ("gelu.cpp",), header="gelu.h"),
            "gelu.cpp activations/gelu.h scalar.h activations/more.h",
        ),
        (Library("d", ("absent.cpp", "gelu.cpp")), "absent.cpp gelu.cpp scalar.h"),
    ],
    ids=lambda value: value.name if isinstance(value, Library) else "",
)
def test_the_projects_files_are_in_csrc(folder: Path, library: Library, names: str) -> None:
    files = [str(path.relative_to(folder / "csrc")) for path in sources.files(library)]
    assert files == names.split()


def test_a_users_files_are_named_from_the_working_folder(folder: Path) -> None:
    absolute = str(folder / "mine" / "a.cpp")
    relative = sources.files(Library("mine", ("mine/a.cpp", "absent.cu"), user=True))
    shared = folder / "csrc" / "scalar.h"
    assert relative == [
        Path("mine/a.cpp"),
        Path("absent.cu"),
        shared,
        Path("mine/b.h"),
        Path("mine/../c.h"),
    ]
    assert sources.files(Library("mine", (absolute,), user=True))[0] == Path(absolute)
    assert sources.compiled(Library("mine", ("mine/a.cpp",), user=True)) == [Path("mine/a.cpp")]


def test_a_users_header_is_in_the_working_folder_and_its_sources_in_csrc(folder: Path) -> None:
    library = Library("own", ("gelu.cu",), header="mine/b.h", user=True)
    assert sources.header(library) == Path("mine/b.h")
    assert sources.compiled(library) == [folder / "csrc" / "gelu.cu"]
    assert sources.files(library)[:2] == [folder / "csrc" / "gelu.cu", Path("mine/b.h")]


def test_a_file_of_two_names_is_there_once() -> None:
    (Path("mine") / "b.h").write_text('#include "../mine/a.cpp"\n#include "../mine/b.h"\n')
    files = sources.files(Library("mine", ("mine/a.cpp", "mine/b.h"), user=True))
    assert len(files) == len({path.resolve() for path in files}) == 4


@pytest.mark.parametrize("name", ["csrc/gelu.cu", "csrc/loops/cuda.h", "csrc/activations/more.h"])
def test_an_edit_of_any_file_changes_the_digest(folder: Path, name: str) -> None:
    library = Library("all", ("gelu.cpp", "gelu.cu"), header="gelu.h")
    before = sources.digest(library)
    (folder / "csrc/unused.h").write_text("int x;\n")
    (folder / "csrc/gelu.cpp").touch()
    assert sources.digest(library) == before
    with (folder / name).open("a") as file:
        file.write("int x;\n")
    assert sources.digest(library) != before


def test_the_digest_is_the_same_wherever_the_files_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library("a", ("gelu.cpp", "absent.cpp"))
    before = sources.digest(library)
    (folder / "csrc").rename(folder / "elsewhere")
    monkeypatch.setattr(sources, "CSRC", folder / "elsewhere")
    assert sources.digest(library) == before
