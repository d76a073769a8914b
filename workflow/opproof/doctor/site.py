"""What SLURM says of itself: its controller, configuration, partitions, accounting and accounts."""

import getpass
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from opproof import slurm
from opproof.doctor.question import NoAnswerError, Question
from opproof.slurm import Job, SlurmError

_Answer = TypeVar("_Answer")

_NEEDED = ("sinfo", "sbatch", "squeue", "scontrol")

# Seconds that a command may take. scontrol ping comes first: where the controller is down it says
# so at once, while the others try for ten seconds.
_PING_SECONDS = 2.5
_SECONDS = 3.5
# ... and that it is waited for, should the kernel not let it end.
_PATIENCE = 4.0

_SEPARATOR = "\x1f"
# Partition, the same with * for the default, up or not, time limit, how many nodes are allocated,
# idle, neither of them, there at all, their gres and names: a line for each kind of a partition's.
_FIELDS = ("%R", "%P", "%a", "%l", "%F", "%G", "%N")


@dataclass(frozen=True)
class Partition:
    """A partition; `usable` of its `nodes` work, idle or not.

    As SLURM words them: `limit`, a job's longest time, and `gpus`, those of its nodes.
    """

    name: str
    is_default: bool
    is_up: bool
    limit: str
    usable: int
    nodes: int
    gpus: tuple[str, ...]

    @property
    def takes_jobs(self) -> bool:
        """Whether a job sent to it would run some time."""
        return self.is_up and self.usable > 0


@dataclass(frozen=True)
class Site:
    """What SLURM has said; where `error` says why it has not, there is nothing else.

    `nodes` are lists of names as SLURM writes them, `accounts` this user's, the default one first.
    `refused` holds why a request would be. An error stands where it came in place of an answer.
    """

    error: str | None = None
    config: dict[str, str] = field(default_factory=dict)
    partitions: tuple[Partition, ...] = ()
    nodes: frozenset[str] = frozenset()
    has_sacct: bool = False
    sacct_error: SlurmError | None = None
    accounts: tuple[str, ...] | SlurmError = ()
    jobs: tuple[Job, ...] | SlurmError = ()
    refused: Mapping[tuple[str, ...], SlurmError] = field(default_factory=dict)

    @property
    def has_accounting(self) -> bool:
        """Whether SLURM keeps records of ended jobs."""
        return self.config.get("AccountingStorageType") == "accounting_storage/slurmdbd"

    @property
    def gpu_partitions(self) -> list[Partition]:
        """The partitions with GPUs, the one to prefer first."""
        found = [entry for entry in self.partitions if entry.gpus]
        return sorted(found, key=lambda entry: not entry.takes_jobs)

    @property
    def gpu_request(self) -> dict[str, int | str]:
        """The resource, for the executor plugin, that asks for a GPU."""
        # --gpus, which the plugin makes of `gpu`, is known to cons_tres alone.
        has_gpus = self.config.get("SelectType") == "select/cons_tres"
        return {"gpu": 1} if has_gpus else {"gres": "'gpu:1'"}

    @property
    def default_partition(self) -> Partition | None:
        """The partition of jobs that name none."""
        return next((entry for entry in self.partitions if entry.is_default), None)


def look(folder: Path, requests: Iterable[tuple[str, ...]]) -> Site | None:
    """Ask SLURM for all of it; None if this machine has no SLURM.

    `folder` is where a pipeline's jobs would work, `requests` are options of sbatch to be tried.
    Takes at most 7 seconds.
    """
    missing = [command for command in _NEEDED if shutil.which(command) is None]
    if len(missing) == len(_NEEDED):
        return None
    if missing:
        return Site(error=f"not on the PATH: {', '.join(missing)}")
    try:
        slurm.ask("scontrol", "ping", timeout=_PING_SECONDS)
    except SlurmError as error:
        if " is UP" not in str(error):  # as a second controller may be
            return Site(error=_words(error))
    has_sacct = shutil.which("sacct") is not None
    config = Question(lambda: slurm.configuration(timeout=_SECONDS), _PATIENCE)
    nodes = _asked("sinfo", "--noheader", "--noconvert", f"--format={_SEPARATOR.join(_FIELDS)}")
    sacct = _asked("sacct", "--noheader", "--allocations") if has_sacct else None
    accounts = Question(_accounts, _PATIENCE)
    jobs = Question(lambda: slurm.jobs_of(folder, timeout=_SECONDS), _PATIENCE)
    sbatch = ("sbatch", "--test-only", "--wrap=true")
    tries = {options: _asked(*sbatch, *options) for options in requests}
    try:
        rows = [line.split(_SEPARATOR) for line in _answer(nodes).splitlines()]
        answers = Site(config=_answer(config), partitions=_partitions(rows))
    except SlurmError as error:
        return Site(error=_words(error))
    refused = {options: _error(answer) for options, answer in tries.items()}
    return replace(
        answers,
        nodes=frozenset(row[-1] for row in rows),
        has_sacct=has_sacct,
        sacct_error=_error(sacct) if sacct else None,
        accounts=_error(accounts) or accounts.answer(),
        jobs=_error(jobs) or tuple(jobs.answer()),
        refused={options: error for options, error in refused.items() if error},
    )


def _asked(*command: str) -> Question[str]:
    return Question(lambda: slurm.ask(*command, timeout=_SECONDS), _PATIENCE)


def _answer(question: Question[_Answer]) -> _Answer:
    """Return the answer. Raises SlurmError also where a command does not let itself be ended."""
    try:
        return question.answer()
    except NoAnswerError as error:
        raise SlurmError(f"SLURM: {error}") from None


def _error(question: Question[Any]) -> SlurmError | None:
    """Return the error that came in place of an answer, None if there is an answer."""
    try:
        _answer(question)
    except SlurmError as error:
        return SlurmError(_words(error))
    return None


def _words(error: SlurmError) -> str:
    """Return the cause, out of all that a command of SLURM says."""
    command, _, said = str(error).partition(": ")
    said = said.rpartition(f"{command}: fatal: ")[2].removeprefix(f"{command}: error: ")
    said = said.partition(f" {command}: error: ")[0].partition(" ***")[0]
    return f"{command}: {said}"


def _accounts() -> tuple[str, ...]:
    user = ("show", "user", getpass.getuser(), "withassoc", "format=defaultaccount,account")
    output = slurm.ask("sacctmgr", "--noheader", "--parsable2", *user, timeout=_SECONDS)
    rows = [line.split("|") for line in output.splitlines()]
    return tuple(dict.fromkeys([*(row[0] for row in rows), *(row[-1] for row in rows)]))


def _partitions(rows: list[list[str]]) -> tuple[Partition, ...]:
    """Return the partitions of rows of _FIELDS."""
    partitions: dict[str, Partition] = {}
    for name, starred, availability, limit, counts, gres, _ in rows:
        allocated, idle, _, nodes = (int(count) for count in counts.split("/"))
        known = partitions.get(name) or Partition(
            name, starred.endswith("*"), availability == "up", limit, 0, 0, ()
        )
        partitions[name] = replace(
            known,
            usable=known.usable + allocated + idle,
            nodes=known.nodes + nodes,
            gpus=tuple(dict.fromkeys([*known.gpus, *_gpus(gres)])),
        )
    return tuple(partitions.values())


def _gpus(gres: str) -> list[str]:
    """Return the GPUs among a node's gres, as of "gpu:a100:4(S:0-1),shard:16"."""
    entries = re.sub(r"\([^)]*\)", "", gres).split(",")
    return [entry for entry in entries if re.fullmatch(r"gpu(:.*)?(?<!:0)", entry)]
