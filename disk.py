"""Report a full disk in one line, whatever library met it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""The operating system's numbers of the errors of a disk that takes no more."""

RESUME = "what was done is kept: make room, then --resume"
AGAIN = "make room, then again"


@contextmanager
def full_disk_reported(folder: Path, then: str = RESUME) -> Iterator[None]:
    """Turn the error of a full disk, or what a library made of it, into an `InputError`.

    It names `folder`, unless the error names a file elsewhere, and says what to do `then`. Other
    errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and _code(cause) not in FULL:
            cause = cause.__cause__ or cause.__context__
        if cause is None or isinstance(error, InputError):
            raise
        reason = os.strerror(_code(cause) or 0)
        raise InputError(
            f"{_place(cause, folder)}: cannot be written to ({reason}); {then}"
        ) from error


def _place(error: BaseException, folder: Path) -> Path:
    """Return `folder`, or the file elsewhere that the error names."""
    named = getattr(error, "filename", None)
    if isinstance(named, str) and not Path(named).absolute().is_relative_to(folder.absolute()):
        return Path(named)
    return folder


def _code(error: BaseException) -> int | None:
    """Return an error's number; libraries written in Rust have it in the text alone."""
    in_text = re.search(r"\(os error (\d+)\)", str(error))
    number = getattr(error, "errno", None)
    return int(in_text[1]) if in_text else number
