"""One run from outside while it is alive, and its end by a signal: what it shows, and to whom."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos import LONG
from tests.chaos.processes import LIMIT, count, running, wait_for
from tests.runs.helpers import events, listening, reached_by_others

pytestmark = [pytest.mark.ray, pytest.mark.slow]
GAUGES = (
    *(f"ray_clip_search_{name}" for name in ("trials", "best_val_accuracy", "samples_per_second")),
    'state="completed"',
)
SIGNALS = [signal.SIGTERM, *([signal.SIGINT] if LONG else [])]


@dataclass(frozen=True)
class Seen:
    """What was seen of a run, and of its end.

    Attributes:
        run_dir: what it left.
        dashboard: the address that it prints.
        page: what the dashboard answers.
        missing: of GAUGES, those that no metrics port showed.
        addresses: those that it and all it started listened on.
        servers: the environments of Ray's servers.
        reached: what another user could read or write of Ray's files.
        left: Ray's files afterwards.
        home: the home folder.
        code: the exit code after the signal,
        seconds: which came so many seconds later.
        errors: the last of what it printed to stderr.
    """

    run_dir: Path
    dashboard: str
    page: bytes
    missing: list[str]
    addresses: set[str]
    servers: list[dict[str, str]]
    reached: list[str]
    left: list[Path]
    home: Path
    code: int
    seconds: float
    errors: str


@pytest.fixture(scope="module", params=SIGNALS, ids=lambda number: number.name)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """A run that would not end by itself; it is ended once it has shown everything."""
    home = tmp_path_factory.mktemp("home")
    # A folder of its own: Ray's runs on a machine share the file that names the metrics' ports.
    # A short one, as it has sockets in it.
    temporary = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    temporary.chmod(0o1777)  # as /tmp is
    folder = temporary / f"clip-search-{os.getuid()}" / "ray"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"HOME": str(home / "none"), "RAY_TMPDIR": str(temporary)}
    endless = ("--set", "data.partitions=[10]", "--trials", "400")
    run_dir = home / "out" / "small"
    try:
        with running(home / "out", *endless, env=environment) as process:
            assert process.stderr is not None
            lines = iter(process.stderr)
            dashboard = next(x.split()[-1] for x in lines if x.startswith("dashboard: http"))
            page = _get(dashboard)
            assert wait_for(lambda: count(run_dir, "trial_report") >= 8, process)
            missing, deadline = list(GAUGES), time.monotonic() + LIMIT
            while missing and process.poll() is None and time.monotonic() < deadline:
                metrics = "".join(_metrics(target) for target in _metrics_targets(folder))
                missing = [text for text in GAUGES if text not in metrics]
            addresses = listening(process.pid)
            servers = _servers(process.pid)
            reached = reached_by_others(temporary)
            process.send_signal(request.param)
            began = time.monotonic()
            _, errors = process.communicate(timeout=30)
            yield Seen(
                run_dir=run_dir,
                dashboard=dashboard,
                page=page,
                missing=missing,
                addresses=addresses,
                servers=servers,
                reached=reached,
                left=list(folder.glob("session_2*")),
                home=home / "none",
                code=process.returncode,
                seconds=time.monotonic() - began,
                errors=errors,
            )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _servers(driver: int) -> list[dict[str, str]]:
    """The environments of the Ray servers that a process has started."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "gcs_server" in process.name():
                found.append(process.environ())
    return found


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=20) as page:
        content: bytes = page.read()
        return content


def _metrics(target: str) -> str:
    """What a metrics port says; nothing where none listens yet."""
    try:
        return _get(f"http://{target}/metrics").decode()
    except OSError:
        return ""


def _metrics_targets(folder: Path) -> list[str]:
    """Where Prometheus would look for the run's metrics."""
    file = folder / "prom_metrics_service_discovery.json"
    return [target for entry in json.loads(file.read_text()) for target in entry["targets"]]


def test_the_dashboard_answers_at_the_address_that_is_printed(seen: Seen) -> None:
    assert seen.dashboard.startswith("http://127.0.0.1:")
    assert b"Ray Dashboard" in seen.page


def test_the_gauges_are_where_prometheus_looks(seen: Seen) -> None:
    assert seen.missing == []


def test_a_run_on_one_machine_listens_on_loopback_alone(seen: Seen) -> None:
    assert seen.addresses == {"127.0.0.1"}


def test_rays_servers_ask_for_a_token_and_report_to_nobody(seen: Seen) -> None:
    (server,) = seen.servers
    assert server["RAY_USAGE_STATS_ENABLED"] == "0"
    assert server["RAY_AUTH_MODE"] == "token"
    assert len(server["RAY_AUTH_TOKEN"]) == 64


def test_another_user_reaches_none_of_rays_files(seen: Seen) -> None:
    assert seen.reached == []


def test_a_run_leaves_no_token_and_none_of_rays_files(seen: Seen) -> None:
    assert seen.left == []
    assert not (seen.home / ".ray").exists()


def test_an_interrupted_run_says_how_to_continue(seen: Seen) -> None:
    assert seen.code == 130, seen.errors
    assert "--resume" in seen.errors.splitlines()[-1]
    assert "Traceback" not in seen.errors
    assert seen.seconds < 10
    assert (seen.run_dir / "events.jsonl").read_bytes().endswith(b"\n")
    assert len(events(seen.run_dir, "trial_report")) >= 8
