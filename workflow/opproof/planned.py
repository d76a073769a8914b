"""The code that a run was planned with: a job that finds another one there refuses to work.

Results of two states of the code would stand in one summary, or a run's state under the digest of
code that it is not of. The controller leaves its digests in the environment, which jobs inherit.
"""

import json
import os

from opproof import codebase, sources
from opproof.errors import UserError
from opproof.settings import Library, Settings

_VARIABLE = "OPPROOF_PLANNED"
_STAGES = ("build", "verify", "train", "timing", "summary", "check")


def announce(settings: Settings) -> None:
    """Leave the digests of the code that a run of these settings is planned with to its jobs."""
    os.environ.pop(_VARIABLE, None)  # another run's
    digests = {_of_stage(stage): stage_digest(stage) for stage in _STAGES}
    operators = {op for backend in settings.backends for op in (backend.op, backend.reference)}
    digests |= {_of_operator(op): operator_digest(op) or "" for op in operators}
    digests |= {_of_library(library): library_digest(library) for library in settings.libraries}
    os.environ[_VARIABLE] = json.dumps(digests)


def stage_digest(stage: str) -> str:
    """Return codebase.digest. Raises UserError where the run was planned with another."""
    return _required(_of_stage(stage), codebase.digest(stage))


def operator_digest(op: str) -> str | None:
    """Return codebase.operator_digest. Raises UserError where the run was planned with another."""
    return _required(_of_operator(op), codebase.operator_digest(op) or "") or None


def library_digest(library: Library) -> str:
    """Return sources.digest. Raises UserError where the run was planned with another."""
    return _required(_of_library(library), sources.digest(library))


def _of_stage(stage: str) -> str:
    return f"the code of the stage {stage}"


def _of_operator(op: str) -> str:
    return f"the code of the operator {op}"


def _of_library(library: Library) -> str:
    return f"the sources of the library {library.name}"


def _required(what: str, digest: str) -> str:
    planned = json.loads(os.environ.get(_VARIABLE, "{}"))
    if planned.get(what, digest) != digest:
        raise UserError(
            f"{what}: edited after this run was planned, so its results would be of two states; "
            "run the pipeline again"
        )
    return digest
