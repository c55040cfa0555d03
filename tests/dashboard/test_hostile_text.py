"""Text of events, requests and names on every page: it is text, it is isolated, and nothing in it is invisible."""

import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from sqlalchemy import update

from pixel import keys, websites, workspaces
from pixel.database import transaction
from pixel.docs import PAGES as DOCS
from tests.cast import READ, WRITE, Workspace, load
from tests.dashboard.test_isolation import ids_of, pages_of
from tests.dashboard.world import Form, world
from tests.pages import person

HARMLESS = "harmless text"
#: Text that a page, a template, a script or a chart may take for something else.
HOSTILE = {
    "attribute": "\"'><svg onload=alert(1)>",
    "template": "{{7*7}}{% raw %}${7*7}",
    "script": "</script><script>alert(1)//",
    "comment": "<!-- --><!DOCTYPE x><![CDATA[",
    "address": "javascript:alert(1)",
    "data": "data:text/html,<script>1</script>",
    "closing": "</td></table></title></textarea><a href='javascript:1'>x</a>",
    "style": "</style><style>*{display:none}",
    "entity": "&lt;b&gt;&#x3c;i onclick=1&#62;",
}
#: Every text field of an event; "props" has the text as key and value.
FIELDS = [
    "event_id", "visitor_id", "session_id", "user_id", "url", "path", "title", "hostname", "referrer", "utm_source",
    "utm_medium", "utm_campaign", "utm_term", "utm_content", "gclid", "fbclid", "msclkid", "ttclid", "user_agent",
    "language", "screen", "country", "device", "browser", "os", "goal", "transaction_id", "provider", "email", "props",
]  # fmt: skip
_GOAL = {"name": "custom", "goal": "g"}
_PAYMENT = {"name": "payment", "amount": 1, "currency": "EUR", "transaction_id": "t", "provider": "p"}


#: Fields that do not go together with the others in one event.
_APART = ("url", "goal", "transaction_id", "provider", "email", "event_id")


def event(site, field, text):
    """An event with the text in one field."""
    base = _GOAL if field == "goal" else _PAYMENT if field in ("transaction_id", "provider", "email") else {}
    whole = {"name": "pageview", "path": "/", "visitor_id": "v", **base, "website_id": site}
    if field in ("url", "referrer"):
        return whole | {field: text if text.startswith(("javascript:", "data:")) else f"https://x.example/{text}"}
    return whole | {field: {text: text} if field == "props" else f"/{text}" if field == "path" else text}


def accepted_fields(app, text):
    """The fields that take the text. The API refuses it in the others."""
    probe = Workspace(app)
    caller = probe.key(WRITE)
    dry_run = "/pixel/events?dry_run=true"
    return [field for field in FIELDS if caller.post(dry_run, json=event(probe.site, field, text)).status_code == 200]


class Page(HTMLParser):
    """The elements of a page, each with those around it and the names of its attributes; and where its text stands."""

    _VOID = frozenset(("br", "img", "input", "link", "meta", "line", "rect", "polyline"))

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.inventory, self.values, self.texts, self._open = set(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.inventory.add((*self._open, tag, *sorted(name for name, _ in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((tuple(self._open), data))

    def handle_comment(self, data):
        self.inventory.add("comment")

    def handle_decl(self, decl):
        self.inventory.add(decl)

    unknown_decl = handle_pi = handle_decl

    @property
    def text(self):
        """What is to be read, without what was typed."""
        return " ".join(data for parents, data in self.texts if "textarea" not in parents)


def tour(app, text, fields=None, name=None):
    """Have the text in everything that pages show. Returns the text of each page by what it is, and its ids."""
    name = text if name is None else name
    here = world(app, name)
    caller = here.workspace.key(READ, WRITE)
    fields = accepted_fields(app, text) if fields is None else fields
    headers = {"User-Agent": text.encode().decode("latin-1"), "X-Request-Id": "abc"}
    for field in fields:
        caller.sends(**event(here.site, field, text))
    together = {"website_id": here.site, "name": "pageview"}
    for field in fields:
        if field not in _APART:
            together[field] = event(here.site, field, text)[field]
    event_id = f"{text} together" if "event_id" in fields else "together"
    request = caller.call("POST", "/pixel/events", headers, json=together | {"event_id": event_id})
    assert request.status_code == 202, request.text
    # Refused, so that the text is in the answer as well as in what was sent.
    caller.call("POST", "/pixel/events", headers, json={"website_id": here.site, "name": text, text: text})
    caller.call("GET", f"/pixel/metrics/{quote(text)}?{quote(text)}={quote(text)}", headers)
    Form(here, "settings.create_key").sent(here.owner, name=name)
    Form(here, "settings.change_website").sent(here.owner, name=name)
    with app.app_context(), transaction() as session:
        session.execute(update(workspaces.Workspace).filter_by(id=here.workspace.id).values(name=name))
        session.execute(
            update(keys.ApiKey)
            .filter_by(workspace_id=here.workspace.id)
            .values(last_used_user_agent=text, last_used_at=keys.clock.now(), last_used_address="10.0.0.1")
        )
    load(app)
    here.mate_id, here.request = here.mate.user_id, request.headers["X-Request-Id"]
    agent = person(app, here.workspace.id, "owner", support=True)
    for wanted in (here.request, here.key, here.owner.email):
        agent.post("/support", wanted=wanted, reason=name)
    ids = ids_of(here)
    # A slash would be a part of the route.
    segment = quote(text.replace("/", "|"), safe="")
    asked = {"path": f"/{text}", "source": text, "goal": text, "steps": f"path:/{text},goal:{text}"}
    query = "&".join(f"{key}={quote(value)}" for key, value in asked.items())
    addresses = {rule.rule: path for rule, path in pages_of(app, ids)} | {
        "filtered": f"/analytics/{here.site}?{query}",
        "funnel": f"/analytics/{here.site}?steps={quote(asked['steps'])}",
        "wrong steps": f"/analytics/{here.site}?steps={quote(text)}",
        "requests of a path": f"/requests?route={quote(text)}&code={quote(text)}&key={quote(text)}",
        "no such request": f"/requests/{segment}",
        "no such page": f"/{segment}",
        "audit of an action": f"/settings/audit?action={quote(text)}",
        "sign in": f"/sign-in?next=/{quote(text)}",
        "support request": f"/support/requests/{here.request}",
        "support key": f"/support/keys/{here.key}",
        "support user": f"/support/users/{here.owner.user_id}",
        **{f"/docs{end}": f"/docs{end}?{quote(text)}" for end in DOCS},
    }
    seen = {}
    for what, path in addresses.items():
        answer = agent.get(path)
        assert answer.status_code < 500, path
        if answer.mimetype == "text/html" and answer.status_code != 303:
            seen[what] = answer.text
    seen["support, nothing found"] = agent.post("/support", wanted=f"nothing of {text}", reason=name).text
    return seen, fields


@pytest.fixture(scope="module")
def harmless_pages(app):
    """The same pages with a harmless text in the same fields."""

    @cache
    def of(*fields):
        return tour(app, HARMLESS, fields)[0]

    return of


@pytest.mark.case(88, 89, 90, 95)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_makes_no_element_and_no_attribute_on_any_page(app, harmless_pages, kind):
    text = HOSTILE[kind]
    pages, fields = tour(app, text)
    assert {"path", "title", "utm_source", "utm_campaign", "goal", "user_agent", "props", "event_id"} <= {*fields}
    harmless = harmless_pages(*fields)
    assert pages.keys() == harmless.keys()
    shown = 0
    for what, page in pages.items():
        hostile = Page(page)
        assert hostile.inventory == Page(harmless[what]).inventory, what
        for tag, attribute, value in hostile.values:
            if attribute in ("href", "src", "action", "formaction", "srcdoc", "xlink:href"):
                assert re.match(r"/|\?|#|https?://", value), (what, tag, value)
            assert not attribute.startswith("on"), (what, tag)
            assert attribute != "style", (what, tag)
        shown += text in hostile.text
    assert shown >= 15
    for what in ("/analytics/<website_id>", "/websites/<website_id>", "/websites/<website_id>/latest",
                 "/requests/<request_id>", "/settings/api-keys", "/settings/audit", "support request", "support key"):  # fmt: skip
        assert text in Page(pages[what]).text, what


#: A text with a letter of each direction, and characters that turn or hide what is around them.
TURNING = "אב\u202ecd\u200b\u2066e\u2028"
_UNSEEN = re.compile("[\u200b\u202e\u2028\u2066\u3164\u00ad]")


@pytest.mark.case(88, 90)
def test_no_page_holds_an_invisible_or_turning_character_of_a_text(app):
    # Names of this kind are refused now. Older ones may be in the database.
    pages, fields = tour(app, TURNING, name="plain name")
    assert {"path", "title", "utm_source", "goal", "user_agent", "props"} <= {*fields}
    for what, page in pages.items():
        seen = Page(page)
        assert not _UNSEEN.search(seen.text), what
        for tag, attribute, value in seen.values:
            # What a form sends back is the text itself.
            assert attribute == "value" or not _UNSEEN.search(value), (what, tag, attribute)
    for what in (
        "/analytics/<website_id>",
        "/websites/<website_id>",
        "/websites/<website_id>/latest",
        "support request",
    ):
        assert 'title="U+202E RIGHT-TO-LEFT OVERRIDE' in pages[what], what


RIGHT_TO_LEFT = "קנרית"
#: Elements that isolate their text, by themselves or as a line of their own.
_ISOLATING = {"bdi", "pre", "textarea"}


@pytest.mark.case(88)
def test_every_text_of_other_people_is_isolated(app):
    pages, fields = tour(app, RIGHT_TO_LEFT)
    assert len(fields) >= 20
    places = 0
    for what, page in pages.items():
        seen = Page(page)
        for parents, data in seen.texts:
            if RIGHT_TO_LEFT not in data or _ISOLATING & {*parents}:
                continue
            # Where no element can stand, characters isolate it.
            assert _is_isolated(data), (what, parents, data)
            places += 1
        for tag, attribute, value in seen.values:
            if RIGHT_TO_LEFT in value and attribute not in ("value", "href", "action"):
                assert _is_isolated(value), (what, tag, attribute, value)
                places += 1
    assert places >= 10


def _is_isolated(text):
    return text.count(RIGHT_TO_LEFT) == len(
        re.findall(f"\u2068[^\u2068\u2069]*{RIGHT_TO_LEFT}[^\u2068\u2069]*\u2069", text)
    )


def test_a_long_text_is_shortened_on_every_page_and_whole_on_demand(app):
    text = "long/" * 60 + "end"
    pages, _ = tour(app, text, ["path", "title", "user_agent", "utm_source"], "plain name")
    for what in (
        "/analytics/<website_id>",
        "/websites/<website_id>",
        "/websites/<website_id>/latest",
        "/settings/api-keys/<key_id>",
    ):
        page = pages[what]
        assert '<details class="whole"><summary>All 30' in page, what
        outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
        assert text not in re.sub(r'(?:href|value)="[^"]*"', "", outside), what
        assert "end</bdi>" in outside, what


# -- names


NAMES = {
    "settings.create_key": "name",
    "settings.change_website": "name",
    "settings.add_website": "name",
    "support.look_up": "reason",
    "settings.invite": "email",
}


@pytest.mark.parametrize("endpoint", NAMES)
@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("\u3164\u3164\u3164", "U+3164 HANGUL FILLER"),
        ("\u2800\u2800\u2800", "U+2800 BRAILLE PATTERN BLANK"),
        ("abc\u202edef", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("abc\u200bdef", "U+200B ZERO WIDTH SPACE"),
        ("abc\u034fdef", "U+034F COMBINING GRAPHEME JOINER"),
        ("abc" + "\u0301" * 20, "4 combining marks"),
    ],
)
def test_a_form_refuses_a_name_that_cannot_be_read_and_says_why(app, names, endpoint, text, refusal):
    here = names
    visitor = here.agent if endpoint.startswith("support.") else here.owner
    typed = f"{text}@example.com" if endpoint == "settings.invite" else text
    answer = Form(here, endpoint).sent(visitor, **{NAMES[endpoint]: typed})
    assert answer.status_code == 400
    # An address with a control character is no address at all.
    assert refusal in answer.text or (endpoint == "settings.invite" and "is no e-mail address" in answer.text)
    assert not _UNSEEN.search(Page(answer.text).text)


@pytest.fixture(scope="module")
def names(app):
    found = world(app)
    found.agent = person(app, found.workspace.id, "owner", support=True)
    return found


@pytest.mark.parametrize("name", ["\u3164", "\u202ea", "a" + "\u0301" * 9])
def test_the_command_line_refuses_the_same_names(app, names, name):
    runner = app.test_cli_runner()
    for arguments in (
        ["workspace", "create", name, "--owner", "someone@example.com"],
        ["key", "create", name, "--workspace", names.workspace.id, "--scope", "pixel:read"],
    ):
        done = runner.invoke(args=arguments)
        assert done.exit_code != 0
        assert re.search(r"U\+|combining marks", done.output), done.output
        assert "Traceback" not in done.output


@pytest.mark.parametrize("name", ["Größe & Co", "日本の店", "می‌خواهم", "👩‍👧 shop", "Café", "שלום"])
def test_a_name_in_any_script_is_accepted_and_shown(app, names, name):
    assert Form(names, "settings.change_website").sent(names.owner, name=name).status_code == 303
    with app.app_context():
        assert websites.get(names.workspace.id, names.site).name == name
    page = Page(names.owner.get(f"/websites/{names.site}").text)
    assert any(name in data for parents, data in page.texts if "bdi" in parents)
