"""The data stage: leaves the four official MNIST files in a folder, whatever the source."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from opproof import arguments, artifact, mnist
from opproof.data import sources
from opproof.data.errors import AbsentError, SourceError
from opproof.data.reading import read_file
from opproof.errors import UserError
from opproof.mnist import IdxFile
from opproof.redaction import redact
from opproof.settings import DataSources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof data`."""
    arguments.add_config(parser)


def main(args: argparse.Namespace) -> int:
    """Get what the settings ask for; return 0. Raises UserError as `get` and read_settings."""
    get(arguments.read_settings(args).data)
    return 0


def get(data: DataSources, files: Sequence[IdxFile] = mnist.FILES) -> None:
    """Leave the official `files` in data.folder, from the first sources that have them.

    Files that are there and right are kept. Prints a line for each thing that happens. Raises
    UserError if no source has the files (naming each try), or at once if one can't be written.
    """
    folder = Path(data.folder)
    missing = [file for file in files if not _is_kept(folder, file)]
    if not missing:
        return
    failures = []
    for label, fetch in sources.tries(data):
        _say(f"{label}: trying")
        try:
            while missing:
                artifact.write_bytes(folder / missing[0].name, _checked(fetch, missing[0]))
                _say(f"{label}: {missing.pop(0).name} is right")
            return
        except SourceError as failure:
            failures.append(_one_line(f"{label}: {failure}"))
            _say(failures[-1])
    raise UserError(_no_source(data, missing, failures))


def _is_kept(folder: Path, file: IdxFile) -> bool:
    try:
        fault = file.fault(read_file(folder / file.name, file.size))
    except AbsentError:
        return False
    except SourceError as failure:
        fault = str(failure)
    _say(f"{file.name}: " + (f"there, but to be replaced: {fault}" if fault else "already there"))
    return fault is None


def _checked(fetch: sources.Fetch, file: IdxFile) -> bytes:
    content = fetch(file)
    fault = file.fault(content)
    if fault:
        raise SourceError(f"{file.name}: {fault}")
    return content


def _no_source(data: DataSources, missing: Sequence[IdxFile], failures: Sequence[str]) -> str:
    names = ", ".join(file.name for file in missing)
    tries = "\n".join(f"  {failure}" for failure in failures)
    return (
        f"no source in data.sources gives what {data.folder} lacks: {names}\n{tries}\n"
        "put these files, as they are or as .gz, into a folder and name it in data.sources"
    )


def _say(line: str) -> None:
    print(_one_line(line), flush=True)


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))
