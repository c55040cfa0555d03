"""compose.yaml, as far as it can be read without an engine: pinned, without a password of its own, with real settings."""

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import config

HOME = Path(__file__).parent.parent
SECRETS = dict.fromkeys(("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "CLICKHOUSE_PASSWORD"), "x" * 32)


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((HOME / "compose.yaml").read_text())["services"]


def test_every_image_has_the_tag_of_one_release(services: dict[str, dict]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    images += re.findall(r"^FROM (.+)", (HOME / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z/-]+:\d+(\.\d+)+(-[a-z0-9.-]+)?(@sha256:[0-9a-f]{64})?", image), image
        # PostgreSQL's releases have two numbers, those of the others three or more.
        assert re.search(r":\d+\.\d+\.\d+|^postgres:\d+\.\d+-", image), image


def test_every_service_is_watched_and_started_again(services: dict[str, dict]) -> None:
    for service in services.values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"


def test_no_password_has_a_default(services):
    asked = set(re.findall(r"\$\{([A-Z_]+)([^}]*)\}", (HOME / "compose.yaml").read_text()))
    assert {name for name, otherwise in asked if otherwise.startswith(":?")} == set(SECRETS)
    assert not [
        name for name, otherwise in asked if re.search("PASSWORD|KEY$", name) and not otherwise.startswith(":?")
    ]


def test_its_settings_are_accepted(services):
    given = services["pixel"]["environment"]
    # The image sets the address, the port and the instance folder.
    assert given.keys() == {setting.name for setting in fields(config.Settings)} - {"BIND", "PORT", "PIXEL_INSTANCE"}
    values = {
        n: re.sub(r"\$\{(\w+)[^}]*?(?::-([^}]*))?\}", lambda m: SECRETS.get(m[1], m[2] or ""), str(v))
        for n, v in given.items()
    }
    settings = config.load(**values)
    assert settings.warehouse_server() == f"clickhouse://pixel:{'x' * 32}@clickhouse:8123/pixel"
    assert settings.shared_claims().startswith("postgresql")


def test_the_image_listens_for_other_containers_even_behind_a_proxy():
    image = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.+)", (HOME / "Dockerfile").read_text(), re.M)[1]))
    listened = config.load(BIND=image["BIND"], TRUSTED_HOPS="1").listen_addresses()
    assert listened == ["0.0.0.0:8000"]


def test_compose_itself_reads_it(tmp_path):
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            break
    else:
        pytest.skip("Docker Compose is not installed: apt-get install docker-compose")
    (tmp_path / "nothing").touch()
    read = [*command, "--file", HOME / "compose.yaml", "--env-file", tmp_path / "nothing", "config", "--quiet"]
    assert subprocess.run(read, env={**SECRETS, "PATH": "/usr/bin:/bin"}, check=False).returncode == 0
    assert subprocess.run(read, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False).returncode != 0
