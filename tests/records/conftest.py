"""Runs written by hand, as the report's tests have them."""

from tests.report.conftest import finished, writer

__all__ = ["finished", "writer"]
