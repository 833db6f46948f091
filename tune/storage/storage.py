"""A folder on any filesystem that pyarrow knows: a disk, S3, GCS, Azure, HDFS."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from errors import InputError, one_line
from files import replacing

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")  # that pyarrow takes
OBJECT_STORES = ("s3", "gcs", "abfs")  # these show a file only once it is whole
ERRORS = (OSError, pa.ArrowException)


def inside(place: str, name: str) -> str:
    """Return the path or URL of a folder in another; what follows a URL's `?` stays its end."""
    head, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return f"{head.rstrip('/')}/{name}{mark}{options}"


@dataclass(frozen=True)
class Storage:
    """A folder on one filesystem."""

    filesystem: FileSystem
    path: str

    @classmethod
    def at(cls, place: str | Path) -> Self:
        """Find the folder of a path or a URL; raise InputError if no filesystem takes it."""
        if "://" not in str(place):
            return cls(LocalFileSystem(), str(Path(place).absolute()))
        scheme = str(place).partition("://")[0].lower()
        if scheme not in SCHEMES:
            allowed = ", ".join(f"{known}://" for known in SCHEMES)
            raise InputError(f"--storage {place}: unknown scheme; allowed: a path, {allowed}")
        try:
            filesystem, path = FileSystem.from_uri(str(place))
        except ERRORS as error:
            raise InputError(f"--storage {place}: {one_line(error)}") from None
        if not path.strip("/"):
            raise InputError(f"--storage {place}: names no folder; needed is s3://BUCKET/FOLDER")
        return cls(filesystem, path.rstrip("/"))

    def __truediv__(self, name: str) -> Storage:
        return Storage(self.filesystem, f"{self.path}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a file to write, read and seek in; it appears whole, if the block succeeds."""
        path = f"{self.path}/{name}"
        if isinstance(self.filesystem, LocalFileSystem):
            with replacing(Path(path)) as temporary, temporary.open("w+b") as file:
                yield file
            return
        buffer = io.BytesIO()
        yield buffer
        whole = self.filesystem.type_name in OBJECT_STORES
        folder, base = PurePosixPath(path).parent, PurePosixPath(path).name
        temporary_path = path if whole else f"{folder}/.{base}.{uuid.uuid4().hex}.tmp"
        if not whole:
            self.filesystem.create_dir(str(folder))
        with self.filesystem.open_output_stream(temporary_path) as stream:
            stream.write(buffer.getbuffer())
        if not whole:
            self.filesystem.move(temporary_path, path)

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Yield a file to read and seek in; raises FileNotFoundError if it does not exist."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            yield file

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.filesystem.get_file_info(f"{self.path}/{name}").type == FileType.File:
            self.filesystem.delete_file(f"{self.path}/{name}")

    def listing(self) -> dict[str, FileInfo]:
        """List every file in the folder and below it, by its path from there."""
        selector = FileSelector(self.path, allow_not_found=True, recursive=True)
        return {
            str(PurePosixPath(info.path).relative_to(self.path)): info
            for info in self.filesystem.get_file_info(selector)
            if info.type == FileType.File
        }
