"""The files in cluster/: what they must say, and that their readers would take them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).resolve().parents[1] / "cluster"
REQUIREMENTS = CLUSTER.parent / "requirements.txt"
LAUNCHERS = ("aws.yaml", "on-premise.yaml")
SCRIPTS = ("job.sh", "private.sh", "slurm.sh", "sge.sh")


def load(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


def rayjob() -> Any:
    _, job = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    return job


def ray_version() -> str:
    """The oldest Ray that requirements.txt takes, with a patch number."""
    (found,) = re.findall(r"^ray\[.*\]>=(\d+\.\d+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return f"{found}.0"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_files_pass_the_launchers_own_validation(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launched_clusters_ask_for_a_token(name: str) -> None:
    config = load(name)
    assert "~/.ray/auth_token" in config["file_mounts"].values()
    started = [
        command
        for kind in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[kind]
        if "ray start" in command
    ]
    assert len(started) == 2
    container = " ".join(config.get("docker", {}).get("run_options", []))
    for setting in ("RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"):
        assert all(setting in f"{container} {command}" for command in started)
    assert "--dashboard-host=127.0.0.1" in started[0]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launched_clusters_keep_their_files_to_their_owner(name: str) -> None:
    config = load(name)
    container = " ".join(config.get("docker", {}).get("run_options", []))
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        before, start = [*config["setup_commands"], *config[kind]][-2:]
        (folder,) = re.findall(r"RAY_TMPDIR=(\S+)", f"{container} {start}")
        makes = [c for c in [*config["setup_commands"], before] if c.startswith("mkdir")]
        assert len(makes) == 1
        assert "-m 700" in makes[0]
        assert folder in makes[0]


def test_the_images_ray_keeps_its_files_to_its_owner() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    (folder,) = re.findall(r"RAY_TMPDIR=(\S+)", text)
    assert f"\nRUN mkdir -m 700 {folder}\n" in text


def test_images_hold_the_ray_of_the_requirements() -> None:
    image = f"rayproject/ray:{ray_version()}-py311-gpu"
    assert load("aws.yaml")["docker"]["image"] == image
    assert f"\nFROM {image}\n" in (CLUSTER / "Dockerfile").read_text()
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == ray_version()


def test_the_rayjob_asks_for_a_token_and_resumes() -> None:
    claim, job = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert "--address auto" in spec["entrypoint"]
    assert "--resume" in spec["entrypoint"]
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert len(images) == 1
    for pod in pods:
        (container,) = pod["containers"]
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        assert {"claimName": claim["metadata"]["name"]} in claims
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert not any("TOKEN" in entry["name"] for entry in container.get("env", []))


def test_the_rayjobs_command_line_is_one_of_ours() -> None:
    from commands.search import parse

    (code,) = re.findall(r"^WORKDIR (.+)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    words = rayjob()["spec"]["entrypoint"].split()
    assert words[:2] == ["python", f"{code}/run_search.py"]
    arguments = parse(words[2:])
    assert (CLUSTER.parent / Path(arguments.space).relative_to(code)).is_file()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_well_formed(name: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / name)], check=True)


@pytest.mark.parametrize("name", [*LAUNCHERS, *SCRIPTS, "Dockerfile", "rayjob.yaml"])
def test_no_token_is_written_down(name: str) -> None:
    text = (CLUSTER / name).read_text()
    assert not re.search(r"RAY_AUTH_TOKEN=|\b[0-9a-f]{32,}\b", text)
