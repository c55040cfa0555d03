"""What is installed: the lock file, the bill of materials, the check for known vulnerabilities, make's targets."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import config
from tests.server import BIN, HOME, Server, free_port

DIVIDER = "# Development and tests only, from here on.\n"
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())


class Package(NamedTuple):
    """One entry of the lock file."""

    requirement: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    @property
    def applies_here(self) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate()


def read_lock() -> tuple[dict[str, Package], dict[str, Package]]:
    """Return the packages of the server and those of development, by name."""
    server, development = (HOME / "requirements.lock").read_text().split(DIVIDER)
    return parse_packages(server), parse_packages(development)


def parse_packages(text: str) -> dict[str, Package]:
    packages = {}
    for entry in re.split(r"^(?=[^ #\n])", text, flags=re.MULTILINE)[1:]:
        requirement = Requirement(entry.partition("\\")[0])
        assert requirement.name not in packages
        packages[requirement.name] = Package(requirement, re.findall(r"--hash=(\S+)", entry))
    return packages


SERVER, DEVELOPMENT = read_lock()
LOCK = SERVER | DEVELOPMENT


def read_requirements(file: str) -> list[Requirement]:
    lines = (HOME / file).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def needed_by(roots: list[Requirement]) -> set[str]:
    """Return the names of packages and of all that they need on this machine, as their installed metadata says."""
    left_out = {entry["name"]: entry["requires-dist"] for entry in PROJECT["tool"]["uv"]["dependency-metadata"]}
    names, waiting = set(), [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        names.add(name)
        for text in left_out.get(name, metadata.requires(name) or []):
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if requirement.marker is None or any(requirement.marker.evaluate(extra) for extra in environments):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return names


@pytest.mark.parametrize(
    ("file", "packages"), [("requirements.txt", SERVER), ("requirements-dev.txt", LOCK)], ids=["server", "development"]
)
def test_every_requirement_is_locked_at_its_version(file: str, packages: dict[str, Package]):
    for requirement in read_requirements(file):
        assert str(requirement.specifier) == f"=={packages[canonicalize_name(requirement.name)].version}"


@pytest.mark.case(110)
def test_every_locked_package_has_hashes_and_one_exact_version():
    assert len(LOCK) == len(SERVER) + len(DEVELOPMENT)
    for name, package in LOCK.items():
        assert re.fullmatch(r"==[\w.]+", str(package.requirement.specifier)), name
        assert package.hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in package.hashes), name


def test_the_servers_part_of_the_lock_is_what_the_server_needs_and_nothing_else():
    here = {name for name, package in SERVER.items() if package.applies_here}
    assert here == needed_by(read_requirements("requirements.txt"))
    assert not here & {"pytest", "playwright", "pandas", "pyarrow", "numpy", "chdb"}


def test_what_is_installed_is_what_the_lock_says():
    for name in needed_by(read_requirements("requirements.txt") + read_requirements("requirements-dev.txt")):
        assert metadata.version(name) == LOCK[name].version, name


def test_the_lock_names_no_host_and_no_path():
    assert "/" not in (HOME / "requirements.lock").read_text()


@pytest.mark.case(110)
def test_make_and_docker_install_nothing_but_the_locked_files():
    dry_run = run("make", "--dry-run", "--always-make", ".venv/ready-dev").stdout
    commands = re.findall(r"pip install(?:.*\\\n)*.*", dry_run + (HOME / "Dockerfile").read_text())
    assert len(commands) == 3
    for command in commands:
        assert "--require-hashes --no-deps --only-binary :all:" in command
    for file in ("Makefile", "Dockerfile"):
        assert "requirements.txt" not in re.sub(r"^lock:.*", "", (HOME / file).read_text(), flags=re.MULTILINE)


BLOCK_DEVELOPMENT_PACKAGES = """
import sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {names}:
            raise ModuleNotFoundError(f"No module named {{name}}", name=name)

sys.meta_path.insert(0, Block())
"""


def test_the_server_answers_every_report_without_the_development_packages(tmp_path: Path):
    modules = [
        module
        for module, distributions in metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in distributions} & SERVER.keys()
    ]
    assert {"pytest", "pyarrow"} <= set(modules)
    (tmp_path / "sitecustomize.py").write_text(BLOCK_DEVELOPMENT_PACKAGES.format(names=set(modules)))
    server = Server(tmp_path / "instance", PYTHONPATH=str(tmp_path))
    blocked = subprocess.run([sys.executable, "-c", "import pyarrow"], env=server.environment, capture_output=True)
    assert blocked.returncode == 1
    server.flask("db", "upgrade")
    server.flask("demo")
    answers = server.flask("demo", "--examples")
    assert "p_top_pages" in answers


@pytest.mark.case(110)
def test_make_sbom_lists_each_package_of_the_server_with_its_version_and_hashes(tmp_path: Path):
    # Nothing is installed for this: -o says that the packages are there.
    make = ["make", "-o", ".venv/ready-dev", f"BIN={BIN}", "sbom"]
    bills = []
    for file in (tmp_path / "first.json", tmp_path / "second.json"):
        assert run(*make, f"SBOM={file}").returncode == 0
        bills.append(file.read_text())
    assert bills[0] == bills[1]
    bill = json.loads(bills[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    product = bill["metadata"]["component"]
    assert (product["name"], product["version"]) == ("pixel-api", config.VERSION)
    assert len(bill["components"]) == len(SERVER)
    for component in bill["components"]:
        package = SERVER[component["name"]]
        hashes = [entry for place in component["externalReferences"] for entry in place["hashes"]]
        assert component["version"] == package.version
        assert component["purl"] == f"pkg:pypi/{component['name']}@{package.version}"
        assert sorted(f"sha256:{entry['content']}" for entry in hashes) == sorted(package.hashes)


VULNERABLE = """{"vulns": [{"id": "TEST-1", "summary": "A test.", "schema_version": "1.0.0", "affected":
    [{"package": {"name": "flask", "ecosystem": "PyPI"}, "ranges": []}]}]}"""


@pytest.fixture
def vulnerability_database() -> Iterator[HTTPServer]:
    """A server with the API of OSV, in which `vulnerable` names the packages with a known vulnerability."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = VULNERABLE if query["package"]["name"] in self.server.vulnerable else "{}"
            self.server.queries.append((query["package"]["name"], query["version"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.vulnerable, server.queries = set(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.case(110)
def test_the_audit_looks_up_every_locked_package_and_fails_on_a_known_vulnerability(vulnerability_database: HTTPServer):
    clean = audit(vulnerability_database.server_port)
    assert clean.returncode == 0, clean.stderr
    assert "No known vulnerabilities found" in clean.stderr
    here = {(name, package.version) for name, package in LOCK.items() if package.applies_here}
    assert here <= set(vulnerability_database.queries)
    vulnerability_database.vulnerable = {"flask"}
    known = audit(vulnerability_database.server_port)
    assert known.returncode == 1
    assert re.search(r"flask\s+3\S+\s+TEST-1", known.stdout)


def test_the_audit_says_that_it_was_skipped_when_its_service_is_away():
    skipped = audit(free_port())
    assert skipped.returncode == 0, skipped.stderr
    assert skipped.stdout.startswith("SKIPPED: no package was checked for known vulnerabilities.")


def audit(port: int) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, ".ci/audit.py", AUDIT_URL=f"http://127.0.0.1:{port}/v1/query")


def test_make_alone_lists_every_target_with_its_meaning():
    targets = re.search(r"^\.PHONY: (.*)", (HOME / "Makefile").read_text(), re.MULTILINE)[1].split()
    lines = run("make").stdout.splitlines()
    assert [line.split()[0] for line in lines] == targets
    assert all(re.fullmatch(r"[a-z-]+ +[A-Z].*\.", line) for line in lines)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder, as if no `make` had started the tests."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        command, cwd=HOME, env=inherited | environment, capture_output=True, text=True, timeout=120, check=False
    )
