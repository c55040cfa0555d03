"""Look up the packages of requirements.lock in a database of known vulnerabilities. Exit with 1 if one is listed there.

When the database cannot be reached, print that and exit with 0. AUDIT_URL names another service with the API of OSV.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx

URL = os.environ.get("AUDIT_URL", "https://api.osv.dev/v1/query")
TIMEOUT_SECONDS = 5


def main() -> int:
    """Return pip-audit's exit status, or 0 when it cannot run."""
    query = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.3"}
    try:
        httpx.post(URL, json=query, timeout=TIMEOUT_SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        print(f"SKIPPED: no package was checked for known vulnerabilities. {URL} cannot be reached: {error}")
        return 0
    command = [Path(sys.executable).with_name("pip-audit"), "--progress-spinner", "off"]
    service = ["--vulnerability-service", "osv", "--osv-url", URL]
    lock = ["--requirement", "requirements.lock", "--require-hashes", "--disable-pip"]
    return subprocess.run([*command, *service, *lock], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
