"""Write requirements.lock. `make lock` runs this with the Python of an environment that has uv.

Arguments are passed to uv, for example `--upgrade`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path("requirements.lock")
#: The server needs the packages above this line. The Makefile, the Dockerfile and the tests search for it.
DIVIDER = "# Development and tests only, from here on."
HEADER = """\
# Every package that is installed, with its version and the SHA-256 of each of its files.
# `make lock` writes this file from requirements.txt and requirements-dev.txt. Do not edit it.
# pyproject.toml ([tool.uv]) names the platforms, and the declared dependencies that are left out.
"""
#: uv repeats the platforms of pyproject.toml in every entry.
PLATFORMS = r"sys_platform == 'darwin' or sys_platform == 'linux'"


def main(options: list[str]) -> None:
    """Resolve all packages together, and write those of the server first."""
    with tempfile.TemporaryDirectory() as folder:
        resolved, runtime = Path(folder, "all.txt"), Path(folder, "runtime.txt")
        # uv keeps the versions that its output file has.
        if LOCK.exists():
            shutil.copy(LOCK, resolved)
        resolve("requirements-dev.txt", resolved, "--generate-hashes", *options)
        shutil.copy(resolved, runtime)
        resolve("requirements.txt", runtime)
        names = {name for name, _ in entries(runtime.read_text())}
        packages = entries(resolved.read_text())
    server = [text for name, text in packages if name in names]
    development = [text for name, text in packages if name not in names]
    LOCK.write_text("".join([HEADER, "\n", *server, "\n", DIVIDER, "\n\n", *development]))


def resolve(requirements: str, output: Path, *options: str) -> None:
    """Write the versions that uv chooses for a requirements file, for every supported Python and platform."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--no-header"]
    command += ["--output-file", str(output), *options, requirements]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def entries(text: str) -> list[tuple[str, str]]:
    """Return the name and the text of each package of a resolved file."""
    text = text.replace(f" ; {PLATFORMS}", "").replace(f" and ({PLATFORMS})", "")
    parts = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    return [(part.partition("==")[0], part) for part in parts]


if __name__ == "__main__":
    main(sys.argv[1:])
