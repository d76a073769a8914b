"""Whether MNIST is there, or can be had."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import util
from pathlib import Path

from opproof import mnist
from opproof.data import package, sources
from opproof.data.errors import SourceError
from opproof.data.reading import read_file
from opproof.doctor import folders
from opproof.doctor.finding import Finding, fault, ok
from opproof.doctor.question import NoAnswerError, Question
from opproof.mnist import IdxFile
from opproof.settings import DataSources

_SECONDS = 4.0


def check(data: DataSources) -> list[Finding]:
    """Say whether the files are there and right, or else which source gives them.

    Nothing is kept: of the files that are missing, a server is asked for the smallest.
    """
    missing = [file for file in mnist.FILES if not _is_right(Path(data.folder), file)]
    if not missing:
        return [ok(f"{data.folder}: all four files of MNIST, with their digests")]
    size = 2 * sum(file.size for file in missing)  # renamed into place once written
    return [folders.room(folders.look(Path(data.folder)), size), _source(data, missing)]


def _is_right(folder: Path, file: IdxFile) -> bool:
    try:
        return file.fault(read_file(folder / file.name, file.size)) is None
    except SourceError:
        return False


def _source(data: DataSources, missing: list[IdxFile]) -> Finding:
    tries = [
        (name, Question(ask, _SECONDS))
        for source in data.sources
        for name, ask in _tries(source, missing)
    ]
    failures = []
    for name, question in tries:
        try:
            question.answer()
        except (SourceError, NoAnswerError) as error:
            failures.append(f"{name}: {error}")
        else:
            return ok(f"of MNIST's four files {len(missing)} are to be fetched; {name} has them")
    return fault(
        f"of MNIST's four files {len(missing)} are missing, and no source has them: "
        + "; ".join(failures),
        "put the files, as they are or as .gz, into a folder and name it in data.sources",
    )


def _tries(source: str, missing: list[IdxFile]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what a source offers to try, and the name to show for it."""
    smallest = [min(missing, key=lambda file: file.size)]
    if source == "torchvision":
        for mirror in _mirrors():
            yield f"torchvision ({mirror})", partial(_fetch, mirror, smallest)
    elif source == "pypi":
        yield "pypi", _find_package
    else:
        wanted = smallest if "://" in source else missing
        yield source, partial(_fetch, source, wanted)


def _fetch(source: str, files: list[IdxFile]) -> None:
    """Get files from a folder or a URL. Raises SourceError if one is not to be had, or wrong."""
    for _, fetch in sources.tries(DataSources("", (source,), _SECONDS)):
        for file in files:
            if fault := file.fault(fetch(file)):
                raise SourceError(f"{file.name}: {fault}")


def _mirrors() -> list[str]:
    """Return the URLs that torchvision knows, out of its source: importing it imports torch."""
    spec = util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return []
    tree = ast.parse((Path(spec.origin).parent / "datasets" / "mnist.py").read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "mirrors":
            return ast.literal_eval(node.value)
    return []


def _find_package() -> None:
    """Ask pip's index for the package. Raises SourceError if it does not have it."""
    name, _, version = package.PACKAGE.partition("==")
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    command += ["--no-cache-dir", "--no-input", "--retries=0"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"pip was not done after {_SECONDS:g} s") from error
    if version not in re.findall(r"[\w.]+", done.stdout):
        raise SourceError(f"pip finds no {package.PACKAGE}")
