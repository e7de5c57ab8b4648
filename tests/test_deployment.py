"""The container files, as far as they can be checked without a container engine; what they run is run for real."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import ValidationError

from learner.logs import LogSettings
from learner.settings import LearnerSettings
from service.settings import ServiceSettings
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[1]
OPERATIONS = REPOSITORY / "docs" / "operations.md"
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
OURS = ("migrate", "api", "worker", "beat")
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD")


def compose(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text())
    return found


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_files_follow_the_specification(name: str) -> None:
    schema = json.loads((REPOSITORY / "tests" / "vendor" / "compose.schema.json").read_text())
    errors = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(compose(name))
    ]
    assert errors == []


def test_the_parts_stand_up_in_order_and_keep_their_data() -> None:
    file = compose("docker-compose.yml")
    services = file["services"]
    assert {*OURS, "postgres", "redis"} <= services.keys()
    for name in ("postgres", "redis", "api", "worker"):
        assert "healthcheck" in services[name], name
    for name in ("api", "worker", "beat"):
        needed = services[name]["depends_on"]
        assert needed["migrate"]["condition"] == "service_completed_successfully"
    for name in OURS:
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    used = {volume.split(":")[0] for each in services.values() for volume in each.get("volumes", ())}
    named = {volume for volume in used if not volume.startswith(".")}
    assert named == set(file["volumes"])
    for path in used - named:
        assert (REPOSITORY / path).exists(), path
    assert set(compose("docker-compose.gpu.yml")["services"]) <= services.keys()


def test_no_secret_has_a_default() -> None:
    for text in ((REPOSITORY / name).read_text() for name in COMPOSE_FILES):
        for secret in SECRETS:
            assert set(re.findall(rf"\$\{{{secret}([^a-z ]*)", text)) <= {":?"}
    example = dict(line.split("=") for line in (REPOSITORY / ".env.example").read_text().splitlines() if "=" in line)
    assert set(example) == set(SECRETS)
    for password in example.values():
        with pytest.raises(ValidationError, match="placeholder"):
            LearnerSettings(database_url=f"postgresql://cage:{password}@postgres/cage", redis_url="redis://:r3@redis")


@pytest.mark.parametrize("password", ["", "change-me", "Password", "postgres"])
def test_placeholders_are_refused_except_on_this_machine(password: str) -> None:
    real = "postgresql://cage:5yVnq@db/cage"
    with pytest.raises(ValidationError, match="placeholder"):
        LearnerSettings(database_url=f"postgresql://cage:{password}@db/cage", redis_url="redis://:5yVnq@redis")
    with pytest.raises(ValidationError, match="placeholder"):
        LearnerSettings(database_url=real, redis_url=f"redis://:{password}@redis")
    LearnerSettings(database_url=f"postgresql://cage:{password}@localhost/cage", redis_url="redis://localhost")
    LearnerSettings(database_url=real, redis_url="redis://:5yVnq@redis")


def test_the_image_is_small_and_not_root() -> None:
    build, run = re.split(r"^FROM ", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    assert "AS build" in build.splitlines()[0]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", run, flags=re.MULTILINE)
    assert not re.search(r"pip install|apt-get|gcc", run)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", build, flags=re.MULTILINE)
    allowed = {line.removeprefix("!") for line in (REPOSITORY / ".dockerignore").read_text().splitlines()}
    for path in " ".join(copied).split():
        assert (REPOSITORY / path).exists(), path
        assert path in allowed, path


def test_every_setting_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"CAGE_[A-Z_]+", OPERATIONS.read_text()))
    settings = {f"CAGE_{name.upper()}" for each in (ServiceSettings, LogSettings) for name in each.model_fields}
    assert documented == settings | {"CAGE_URL", "CAGE_API_KEY"}


class Containers:
    """Runs what the Compose file says, without Docker: its commands, from a folder of their own."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def command(self, words: list[str]) -> list[str]:
        program = {"python": sys.executable, "cage": str(Path(sys.executable).with_name("cage"))}
        program["celery"] = str(Path(sys.executable).with_name("celery"))
        return [program.get(words[0], words[0]), *words[1:]]

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        command = self.command(words)
        return subprocess.run(
            command, env=self._environment, cwd=self._directory, capture_output=True, text=True, timeout=100
        )

    def start(self, words: list[str], log: Path) -> None:
        with log.open("wb") as output:
            command = self.command(words)
            process = subprocess.Popen(
                command, env=self._environment, cwd=self._directory, stdout=output, stderr=output
            )
        self._running.append(process)

    def stop(self) -> list[int]:
        for process in self._running:
            process.terminate()
        return [process.wait(40) for process in self._running]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def containers(database_url: str, redis_url: str, port: int, tmp_path: Path) -> Iterator[Containers]:
    here = tmp_path / "app"
    here.mkdir()
    addresses = {"CAGE_DATABASE_URL": database_url, "CAGE_REDIS_URL": redis_url, "CAGE_PORT": str(port)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    containers = Containers(
        {**os.environ, **addresses, "PATH": path, "HOSTNAME": socket.gethostname(), "HOME": str(here)}, here
    )
    yield containers
    containers.stop()


@pytest.mark.timeout(300)
def test_what_the_containers_run_works(containers: Containers, port: int, tmp_path: Path) -> None:
    services = compose("docker-compose.yml")["services"]
    migrated = containers.run(services["migrate"]["command"])
    assert migrated.returncode == 0, migrated.stderr
    for name in ("api", "worker", "beat"):
        containers.start(services[name]["command"], tmp_path / f"{name}.log")

    def is_healthy(name: str) -> bool:
        kind, *words = services[name]["healthcheck"]["test"]
        text = " ".join(words).replace("$$", "$")
        words = ["sh", "-c", text] if kind == "CMD-SHELL" else [word.replace("8080", str(port)) for word in words]
        return containers.run(words).returncode == 0

    def logs(name: str) -> str:
        return (tmp_path / f"{name}.log").read_text()

    wait_until(lambda: is_healthy("api"), seconds=60)
    wait_until(lambda: is_healthy("worker"), seconds=60)
    wait_until(lambda: "sweep" in logs("beat"), seconds=30)
    wait_until(lambda: "learner.tasks.sweep" in logs("worker"), seconds=30)
    made = containers.run(["cage", "tenants", "create", "first", "--json"])
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["key"].startswith("cage_")
    for name in ("api", "worker", "beat"):
        assert "Traceback" not in logs(name)
    # In the image the user of these commands may write neither to its home nor to where it is started.
    assert list((tmp_path / "app").rglob("*")) == []
