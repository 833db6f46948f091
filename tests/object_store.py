"""An S3 server on loopback, for as long as the tests run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow.fs import S3FileSystem

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
"""Keys that anyone may know."""


@contextmanager
def object_store(bucket: str) -> Iterator[str]:
    """Yields the URL of an empty bucket; `KEYS` in the environment open it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        where = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
        filesystem = S3FileSystem(allow_bucket_creation=True, **where)
        filesystem.create_dir(bucket)
        query = "&".join(f"{key}={value}" for key, value in where.items())
        yield f"s3://{bucket}?{query}"
    finally:
        server.stop()
