"""A real browser in front of a real server. Without Chromium or axe-core these tests are skipped, and say so."""

import re
import shutil
import sqlite3

import httpx
import pytest

from tests.browser.sites import Browser, Host, Reports
from tests.server import HOME, Server, until

PASSWORD = "four plain words here"
WIDTHS = {"phone": 390, "desktop": 1280}
_SECRET = re.compile(r"pxl_[a-z]+_[0-9A-Za-z]{32}")
_AXE = HOME / ".venv" / "node_modules" / "axe-core" / "axe.min.js"


def chromium_binary():
    """The path of the browser, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium():
    found = chromium_binary()
    if not found:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    if not _AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix .venv axe-core")
    return _AXE.read_text()


class Site:
    """A running server with a workspace, a website and an owner, and another workspace beside it."""

    def __init__(self, instance):
        # Some of these tests spoil rows in a way that PostgreSQL does not let happen.
        self.server = Server(instance, RATELIMIT_API="100000", DATABASE_URL="")
        (self.workspace, link), (self.website, _), (key, _) = self.server.set_up_by(
            ["workspace", "create", "Harbour shop", "--owner", "owner@example.com"],
            ["website", "add", "shop.example", "--workspace", "{0}"],
            ["key", "create", "engine check", "--workspace", "{0}", "--scope", "pixel:read"],
        )
        self.link = _link(link)
        self.server.start()
        self.url = self.server.url
        self.server.wait_for_engine(key)

    def workspace_of(self, name, owner):
        """A new workspace: its id, and the link by which its owner signs in for the first time."""
        done = self.server.flask("workspace", "create", name, "--owner", owner, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), _link(done.stderr)

    def execute(self, sql, *values):
        """Change the control data behind the server's back, as time or an accident would."""
        with sqlite3.connect(self.server.instance / "pixel.sqlite", timeout=10) as database:
            assert database.execute(sql, values).rowcount > 0
        database.close()

    def call(self, key, path, **options):
        """Call the API."""
        method = "POST" if "json" in options else "GET"
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.request(method, f"{self.url}/api/v1{path}", headers=headers, **options)

    def event(self):
        return {"website_id": self.website, "name": "pageview", "path": "/", "visitor_id": "v"}


def _link(said):
    """The path of the one-time link that a command has told, or None."""
    path = re.search(r"/links/\S+", said)
    return path and path[0]


@pytest.fixture(scope="session")
def site(tmp_path_factory, chromium):
    site = Site(tmp_path_factory.mktemp("browser") / "instance")
    person = Person(site, chromium)
    person.opens(site.link)
    person.page.get_by_label("New password").fill(PASSWORD)
    person.presses("Set the password and sign in")
    person.leaves()
    yield site
    site.server.stop()
    said = site.server.log.read_text()
    assert '"event":"request"' in said
    assert not _SECRET.search(said)
    assert PASSWORD not in said
    # Nothing that a test did on our pages broke their policy (case 91).
    assert "Content-Security-Policy violation" not in said


class Person:
    """Somebody at a browser."""

    def __init__(self, site, chromium, scripts=True):
        self.site, self.scripts = site, scripts
        self.context = chromium.new_context(
            base_url=site.url,
            java_script_enabled=scripts,
            viewport={"width": WIDTHS["desktop"], "height": 900},
            color_scheme="light",
            bypass_csp=False,
        )
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.complaints = []
        self.addresses = set()
        self.page.on("request", lambda asked: self.addresses.add(asked.url))
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def opens(self, path):
        answer = self.page.goto(path)
        return answer.status

    def signs_in(self, email="owner@example.com", password=PASSWORD):
        self.opens("/sign-in")
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.presses("Sign in")
        return self

    def presses(self, words):
        self.page.get_by_role("button", name=words, exact=True).first.click()
        self.page.wait_for_load_state()

    def follows(self, words):
        self.page.get_by_role("link", name=words, exact=True).first.click()
        self.page.wait_for_load_state()

    def ticks(self, words):
        self.page.get_by_label(words, exact=True).check()

    def sees(self, words):
        self.page.get_by_text(words).first.wait_for()

    @property
    def text(self):
        return self.page.locator("body").inner_text()

    def secret(self):
        """The key that the page shows."""
        return self.page.locator(".secret code").inner_text().strip()

    def leaves(self):
        assert not [c for c in self.complaints if "404" not in c and "400" not in c and "403" not in c], self.complaints
        # The address of a one-time link is the link; no other secret is ever in an address.
        assert not [url for url in self.addresses if _SECRET.search(url) and "/links/pxl_" not in url]
        self.context.close()


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def owner(request, site, chromium):
    """The owner, signed in, with JavaScript and without."""
    person = Person(site, chromium, scripts=request.param).signs_in()
    yield person
    person.leaves()


def is_true(fact, **options):
    until(fact, **options)


#: What axe looks for, and what of it a dark page may have that a light one has not.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_OF_COLOURS = ["color-contrast", "link-in-text-block"]
# To tell of all that is right takes several times as long as to look for what is wrong.
_WRONG = """rules => axe.run({runOnly: rules, resultTypes: ["violations"]}).then(({violations}) => violations.map(
    ({id, nodes}) => `${id}: ${nodes.slice(0, 3).map(({html}) => html.slice(0, 200)).join(" | ")}`))"""


def examined(page, axe):
    """What axe-core finds wrong with the page in the light, and with its colours in the dark, as short texts."""
    page.evaluate(axe)
    found = []
    # Nothing of ours asks for the width while it loads, so that one visit will do for all.
    for name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        found += [f"{name}: {wrong}" for wrong in page.evaluate(_WRONG, _RULES)]
        page.emulate_media(color_scheme="dark")
        found += [f"{name}, in the dark: {wrong}" for wrong in page.evaluate(_WRONG, _OF_COLOURS)]
        page.emulate_media(color_scheme="light")
    return found


@pytest.fixture(scope="session")
def website(site):
    return site.server.flask("website", "add", "localhost", "--workspace", site.workspace)


@pytest.fixture(scope="session")
def reports(site, website):
    key = site.server.flask("key", "create", "pixel", "--workspace", site.workspace, "--scope", "pixel:read")
    return Reports(site, key, website)


@pytest.fixture(scope="session")
def host(site, website):
    host = Host(site.url, website)
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def browser(chromium):
    """Browsers, made on demand. No page in them ever sees an exception."""
    made = []

    def another(**options):
        made.append(Browser(chromium, **options))
        return made[-1]

    yield another
    for one in made:
        one.context.close()
    assert [error for one in made for error in one.errors] == []
