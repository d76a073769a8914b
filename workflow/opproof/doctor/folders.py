"""The folders that a pipeline needs: room, permissions, and whether other machines see them."""

import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from opproof.doctor.finding import Finding, State, fault, ok, warning
from opproof.doctor.question import Question
from opproof.doctor.site import Site
from opproof.mnist import steps_per_epoch
from opproof.paths import TREE
from opproof.settings import Settings

# Bytes, measured: a library (with CUDA kernels for two GPUs), logs, tables and Snakemake's records;
# what a run leaves (checkpoint, record, predictions), and what each of its steps does (its loss, in
# two records and in TensorBoard's). With room to spare.
_LIBRARY = 32e6
_REST = 100e6
_RUN = 2e6
_STEP = 64
# Below so much more than is needed, others on the file system may be faster.
_MARGIN = 1e9

# Types of file systems, as in mountinfo. Others are not known to be the one or the other.
_SHARED = {
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "nfs", "nfs4", "ocfs2",
    "orangefs", "panfs", "pvfs2", "smb3", "virtiofs", "wekafs",
    "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.cvmfs2", "fuse.dfuse", "fuse.glusterfs",
    "fuse.juicefs", "fuse.quobyte", "fuse.sshfs",
}  # fmt: skip
_LOCAL = {
    "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "squashfs",
    "tmpfs", "vfat", "xfs", "zfs",
}  # fmt: skip

_MOUNTS = Path("/proc/self/mountinfo")
# How it writes spaces and their like.
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Place:
    """A folder, which may not be there yet, and what holds for the nearest one that is.

    `free` in bytes, of the file system: a quota is not seen. `kind` is the file system's type.
    """

    folder: Path
    is_folder: bool
    is_writable: bool
    is_everybodys: bool
    free: int
    kind: str


def check(here: Path, settings: Settings, asked: Question[Site | None]) -> list[Finding]:
    """Say whether a pipeline, started `here`, can write to its folders, and its jobs see them."""
    output, mnist = Path(settings.output), Path(settings.data.folder)
    places = [look(path) for path in (output, here, mnist, Path(sys.prefix), TREE)]
    findings = [
        room(places[0], _needed(settings)),
        *_openness(places[0], fault),  # libraries are not loaded from there
        room(places[1], _REST),
        *_openness(places[1], warning),
    ]
    site = asked.answer()
    this_machine = socket.gethostname().partition(".")[0]
    has_other_nodes = site is not None and bool(site.nodes - {this_machine})
    return [*findings, *(_sight(places) if has_other_nodes else [])]


def look(folder: Path) -> Place:
    """Look at a folder. Raises OSError if that can't be done."""
    absolute = folder.absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if os.access(path, os.F_OK))
    mode = nearest.stat().st_mode
    return Place(
        folder,
        is_folder=stat.S_ISDIR(mode),
        is_writable=os.access(nearest, os.W_OK | os.X_OK),
        is_everybodys=nearest == absolute and bool(mode & stat.S_IWOTH),
        free=shutil.disk_usage(nearest).free,
        kind=_kind(nearest.resolve()),
    )


def _needed(settings: Settings) -> float:
    """Return the bytes that the output folder will hold, about."""
    runs = len(settings.backends) * len(settings.seeds)
    steps = settings.train.epochs * steps_per_epoch(settings.train.batch_size)
    return _REST + len(settings.libraries) * _LIBRARY + runs * (_RUN + steps * _STEP)


def room(place: Place, size: float) -> Finding:
    """Say whether `size` bytes can be written into a folder."""
    if not place.is_folder:
        return fault(f"{place.folder}: lies where a file is", "name another folder, or move it")
    if not place.is_writable:
        return fault(f"{place.folder}: cannot be written to", "name another, or chmod u+rwx")
    text = f"{place.folder}: {place.free / 1e9:.1f} GB free, about {size / 1e9:.1f} GB needed"
    if place.free < size:
        return fault(text, "make room, or name a folder of another file system")
    if place.free < size + _MARGIN:
        return warning(text, "make room: others may need it, too")
    return ok(text)


def _openness(place: Place, judge: Callable[[str, str], Finding]) -> Iterator[Finding]:
    if place.is_everybodys:
        yield judge(f"{place.folder}: everybody can write to it", f"chmod -R o-w {place.folder}")


def _sight(places: Iterable[Place]) -> list[Finding]:
    """Say whether other machines see the folders, as far as the file systems tell."""
    by_kind: dict[str, list[str]] = {}
    for place in places:
        by_kind.setdefault(place.kind, []).append(str(place.folder))
    return [_on(kind, ", ".join(dict.fromkeys(names))) for kind, names in by_kind.items()]


def _on(kind: str, names: str) -> Finding:
    if kind in _SHARED:
        return ok(f"on {kind}, which nodes can share: {names}")
    if kind in _LOCAL:
        return warning(
            f"on {kind}, which this machine alone may see: {names}",
            "put them where all nodes see them under the same path, as home or project folders",
        )
    return Finding(State.UNKNOWN, f"on {kind}, shared with the nodes or not: {names}")


def _kind(path: Path) -> str:
    """Return the type of the file system that a path without links lies on, by proc(5)."""
    found, depth = "?", 0
    for line in _MOUNTS.read_text(errors="surrogateescape").splitlines():
        mount, _, source = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), mount.split()[4]))
        # The last one of a place hides those before it.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = source.split()[0], len(point.parts)
    return found
