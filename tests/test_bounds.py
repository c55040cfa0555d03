"""Requests with more parts, or longer ones, than anybody needs."""

import re

import pytest

from pixel import access, pages
from pixel.intake.bounded import MOST_FIELDS, MOST_PARAMETERS
from tests.cast import error, stored
from tests.collect.pages import FIREFOX, Browser, fate, show
from tests.pages import Visitor, person


@pytest.fixture
def browser(app, ada):
    return Browser(app, ada.site)


def forms():
    """Every form of the pages."""
    waiting, found = [pages.Form], []
    while waiting:
        form = waiting.pop()
        waiting += form.__subclasses__()
        found += [form] if form.__module__.startswith("pixel.") else []
    return found


def test_every_text_field_of_every_form_has_a_limit(app):
    texts = 0
    for form in forms():
        for name, field in vars(form).items():
            if getattr(field, "field_class", None) and field.field_class.__name__ in (
                "StringField", "TextAreaField", "PasswordField", "HiddenField",
            ):  # fmt: skip
                texts += 1
                validators = field.kwargs.get("validators", ()) or (field.args[1] if len(field.args) > 1 else ())
                limits = [check for check in validators if hasattr(check, "most_characters")]
                assert limits, f"{form.__name__}.{name}"
    assert texts > 15


def test_a_domain_that_is_too_long_is_refused_before_it_is_normalised(app, ada):
    owner = person(app, ada.id, "owner")
    for domain, message in (("\ufdfa" * 5000, "at most 300 characters"), ("\ufdfa" * 59, "is no domain")):
        answer = owner.post("/websites/new", domain=domain, name="", timezone="UTC")
        assert answer.status_code == 400
        assert message in answer.text


def test_a_query_has_at_most_five_hundred_parameters(app, ada, caller):
    for number, status in ((MOST_PARAMETERS, 400), (MOST_PARAMETERS + 1, 400), (10_000, 400)):
        response = caller.get("/pixel/metrics/p_top_pages?" + "&".join(["a"] * number))
        assert error(response) == (status, "invalid_query")
        wrong = response.json["error"]["details"]
        assert ("_query" in wrong) == (number > MOST_PARAMETERS)
    assert wrong == {"_query": ["Has more than 500 parameters."]}
    filters = "&".join(f"{name}=a{n}" for n in range(100) for name in ("path", "goal", "browser", "os"))
    assert caller.get(f"/pixel/metrics/p_top_pages?{filters}").status_code == 200
    # Whoever reads a mail sees an image.
    assert show(app, f"website_id={ada.site}" + "&a" * 1000).mimetype == "image/gif"
    assert show(app, f"website_id={ada.site}" + "&a" * 100).mimetype == "image/gif"
    assert len(stored(app, ada.site)) == 1


def test_a_query_is_decoded_as_it_was(caller):
    asked = caller.get("/pixel/metrics/p_top_pages?path=%2Fa+b%20c&path=%C3%BC&path=%&path=100%25&&goal=a%3Db&os=x=y")
    assert asked.json["meta"]["query"]["filters"] == {
        "path": ["/a b c", "ü", "%", "100%"], "goal": ["a=b"], "os": ["x=y"],
    }  # fmt: skip


def test_a_form_has_at_most_two_thousand_fields(app):
    visitor = Visitor(app)
    assert "too many" not in visitor.send("/sign-in", {"email": "a"}).text
    refused = visitor.send(
        "/sign-in", "&".join(["a"] * (MOST_FIELDS + 1)), content_type="application/x-www-form-urlencoded"
    )
    assert refused.status_code == 400
    assert "bad_request" in refused.text
    assert visitor.send("/sign-in", {"email": "a" * 40_000}).status_code == 413


@pytest.mark.parametrize(
    ("header", "language"),
    [("de-CH,de;q=0.9", "de-CH"), ("fr;q=0.1, da;q=0.9", "da"), ("da," + "a;q=1," * 1300, "da"), ("x" * 8000, ""),
     ("*", "*"), ("", "")],
)  # fmt: skip
def test_the_language_is_read_from_the_beginning_of_its_header(app, ada, browser, header, language):
    assert fate(browser.sends(headers={"Accept-Language": header}))["status"] == "accepted"
    [row] = stored(app, ada.site)
    assert row["language"] == language


def test_a_session_is_found_among_the_cookies_of_other_programs(app, ada):
    owner = person(app, ada.id, "owner")
    with app.app_context():
        name = access.cookie_name("pixel_session")
    value = owner.browser.get_cookie(name).value
    for cookies in (
        f"{name}={value}",
        f"a=b; {name}={value}; c=d",
        ";" * 4000 + f" {name}={value}",
        f"a=b;{name}={value}",
    ):
        answer = app.test_client(use_cookies=False).get("/account", headers={"Cookie": cookies, "User-Agent": FIREFOX})
        assert answer.status_code == 200, cookies[:50]
    assert app.test_client(use_cookies=False).get("/account", headers={"Cookie": f"x{name}={value}"}).status_code == 303


def test_a_long_list_of_etags_is_no_condition(app):
    client = app.test_client()
    etag = client.get("/pixel.js").headers["ETag"]
    assert client.get("/pixel.js", headers={"If-None-Match": f'"a", {etag}'}).status_code == 304
    assert client.get("/pixel.js", headers={"If-None-Match": '"a", ' * 100 + etag}).status_code == 200


def test_a_very_long_content_type_is_none_that_is_taken(ada, browser):
    assert error(browser.sends(content_type="text/plain; " + "a=b; " * 100)) == (415, "unsupported_media_type")


def test_a_number_of_a_page_is_in_ascii_digits(app, ada):
    owner = person(app, ada.id, "owner")

    def shown(**query: str) -> str:
        # The token of the form has the second in it.
        return re.sub(r'value="[^"]*"', "", owner.get("/settings/api-keys", query_string=query).text)

    first = shown()
    for page in ("1", "0", "-1", "\u0661", "1_0", " 1", "+1", "9" * 5000, "x", ""):
        assert shown(page=page) == first, page
