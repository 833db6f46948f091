"""Heads of probes, kept beside a run: each is solved once, for all processes that start from it."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from safetensors.torch import load, save

from errors import InputError
from models.head import LinearHead
from records import probe_head_name
from tune.storage.storage import ERRORS, Storage
from tune.trials.checkpoints import CHECKSUM
from tune.workers.private import private_folder

log = logging.getLogger(__name__)


class KeptHead:
    """The file of one head, in the folder of a run's checkpoints.

    `key` names all that the head follows from. The file's name and checksum follow from the key,
    so that no other run's head is taken for this one.
    """

    def __init__(self, folder: Storage, key: str) -> None:
        self._folder, self._key = folder, key.encode()
        self._digest = hashlib.sha256(self._key).hexdigest()
        self._name = probe_head_name(self._digest)

    def solved(self, solve: Callable[[], LinearHead | None]) -> LinearHead | None:
        """Read the head, or `solve` for it and write it; on a machine one process does.

        A file that is damaged, or cannot be read or written, costs the time of a solution alone.
        What cannot be solved, None, is not kept.
        """
        if head := self._read():
            return head
        with _alone(self._digest):
            if head := self._read():  # whom we waited for has written it
                return head
            head = solve()
            if head:
                self._write(head)
        return head

    def _read(self) -> LinearHead | None:
        try:
            with self._folder.reading(self._name) as file:
                content = file.read()
        except FileNotFoundError:
            return None
        except ERRORS as error:
            log.warning("%s: cannot be read, the probe is solved again: %s", self._name, error)
            return None
        tensors, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        if self._checksum(tensors) != checksum:
            log.warning("%s: damaged, the probe is solved again", self._name)
            return None
        return LinearHead(**load(tensors))

    def _write(self, head: LinearHead) -> None:
        tensors = save({"weight": head.weight.cpu(), "bias": head.bias.cpu()})
        try:
            with self._folder.writing(self._name) as file:
                file.write(tensors)
                file.write(self._checksum(tensors))
        except ERRORS as error:
            log.warning("%s: not written, others solve the probe again: %s", self._name, error)

    def _checksum(self, tensors: bytes) -> bytes:
        return zlib.crc32(tensors, zlib.crc32(self._key)).to_bytes(CHECKSUM, "little")


@contextmanager
def _alone(digest: str) -> Iterator[None]:
    """Let no other process of this user on this machine into its block of the same digest.

    All share one file, whose lock falls with the process. It lies on the machine's own disk: over
    a network, the lock of a machine that was lost may stay. Two machines both solve; so does
    everyone where there is no such folder.
    """
    with ExitStack() as stack:
        with suppress(OSError, InputError):
            place = private_folder() / "probes.lock"  # where no other user can hold it
            file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, file)
            fcntl.lockf(file, fcntl.LOCK_EX, 1, int(digest[:12], 16))  # a byte of its own
        yield
