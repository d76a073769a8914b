"""Who may read and write what OpProof makes, and whose files it runs code from."""

import os
import shlex
import stat
from pathlib import Path

from opproof.errors import UserError


def keep_private() -> None:
    """Let nobody else write, and only the group read, what this process and its children make.

    A stricter umask of the user's stays.
    """
    os.umask(os.umask(0o077) | 0o027)  # it can't be read without being set


def close(folder: Path) -> None:
    """Let nobody else into a folder, if it is there and this user's."""
    status = _status(folder)
    if status and status.st_uid == os.getuid():
        folder.chmod(stat.S_IMODE(status.st_mode) & ~0o077)


def require_closed(*paths: Path) -> None:
    """Raise UserError where everybody may write one of `paths`, as far as they are there.

    A group may: project folders are shared.
    """
    for path in paths:
        status = _status(path)
        if status and status.st_mode & stat.S_IWOTH:
            raise UserError(
                f"{path}: everybody can write to it, so what is loaded from there could be "
                f"anybody's; run: chmod -R o-w {shlex.quote(str(path))}"
            )


def require_own(*paths: Path) -> None:
    """Raise UserError where one of `paths` is another user's, as far as they are there."""
    for path in paths:
        status = _status(path)
        if status and status.st_uid != os.getuid():
            raise UserError(
                f"{path}: belongs to another user, whose code would run as yours; delete it, or "
                "set XDG_CACHE_HOME to a folder of your own"
            )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None  # not made yet, or a temporary file that is gone
