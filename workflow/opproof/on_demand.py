"""Builds what a stage that is called by hand needs; in the pipeline the build stage has done so."""

import contextlib
import sys
from pathlib import Path

from opproof import artifact, build, library, sources
from opproof.errors import UserError
from opproof.settings import Backend, Library, Settings


def build_for(settings: Settings, backend: Backend) -> None:
    """Build the backend's library unless it is there and of the sources as they are now.

    A source that does not compile is recorded, as by the build stage. Raises as build.build.
    """
    if backend.library is None:
        return
    entry, output = settings.library(backend.library), Path(settings.output)
    if not _is_built(entry, output):
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for what the stage says
            build.build(entry, settings.build, output)


def _is_built(entry: Library, output: Path) -> bool:
    """Say whether there is a record of these sources, whatever the compiler has said of them."""
    try:
        recorded = artifact.read_json(library.record_path(output, entry.name))["sources"]
        digests = [artifact.file_digest(path) for path in sources.files(entry)]
    except (UserError, OSError, KeyError):
        return False
    return sorted(recorded.values()) == sorted(digests)
