"""Only ASCII letters and digits count where a token is ASCII: 'ı', 'ſ', 'ß' and the Kelvin sign are not I, S, SS and K."""

import re
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from pixel import currencies, letters, members
from pixel.intake import schemas
from tests.cast import error, shown, stored, told, trust
from tests.collect.pages import Browser, fate

#: Letters that become ASCII when their case is changed, and digits that `int` reads.
FOLDED = [chr(code) for code in range(128, 0x20000) if not chr(code).isascii() and (
    chr(code).upper().isascii() or chr(code).lower().isascii() or chr(code).casefold().isascii()
)]  # fmt: skip
DIGITS = [chr(code) for code in range(128, 0x20000) if unicodedata.decimal(chr(code), None) is not None]
odd = st.sampled_from([*FOLDED, *DIGITS[:40], "Ａ", "\u0131", "\u017f", "\u212a", "ß", "ﬀ"])
event = schemas.Event()


@pytest.fixture
def browser(app, ada):
    return Browser(app, ada.site)


BASE = {"website_id": "w", "name": "payment", "path": "/", "amount": 1, "currency": "EUR", "transaction_id": "t"}


def accepts(**fields):
    try:
        return event.load(BASE | fields)
    except ValidationError:
        return None


def test_there_are_letters_that_fold_to_ascii():
    assert {"\u0131", "\u017f", "\u212a", "ß"} <= set(FOLDED)


def test_no_spelling_of_a_currency_with_another_letter_is_one():
    spelled = {(other.upper(), other) for other in FOLDED} | {(other.lower().upper(), other) for other in FOLDED}
    for code in sorted(currencies.CODES):
        for ascii, other in spelled:
            if ascii in code:
                assert accepts(currency=code.replace(ascii, other)) is None, other


@given(st.text(st.sampled_from("GBPgbpUSDusdKRWkrwISKisk") | odd, min_size=1, max_size=4))
def test_an_accepted_currency_is_three_ascii_letters(text):
    if loaded := accepts(currency=text):
        assert re.fullmatch("[A-Za-z]{3}", text)
        assert loaded["currency"] == text.upper()
    else:
        assert not (text.isascii() and text.upper() in currencies.CODES)


@given(st.text(st.sampled_from("DEdeUSusKRkr") | odd, min_size=1, max_size=3))
def test_an_accepted_country_is_two_ascii_letters(text):
    assert (accepts(country=text) is not None) == bool(re.fullmatch("[A-Za-z]{2}", text))


RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.from_regex(r"(19|20)\d\d-[01]\d-[0-3]\d[Tt ][0-3]\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", fullmatch=True)
    | st.from_regex(RFC3339, fullmatch=True)
)
def test_an_accepted_time_is_ascii_and_of_rfc_3339(text):
    if accepts(timestamp=text):
        assert RFC3339.fullmatch(text)


SECOND = "2026-01-31T11:59:59"


@pytest.mark.parametrize(
    "text",
    [*(f"{SECOND}{offset}" for offset in ("+24:00", "-24:00", "+12:60", "-00:99", "+99:99", "+23:60", "-99:00")),
     "2026-01-31T24:00:00Z", "2026-01-31T23:59:60Z", "2016-12-31T23:59:60Z", "2026-01-31T12:60:00Z",
     "2026-01-00T00:00:00Z", "2026-00-01T00:00:00Z", "0000-01-01T00:00:00Z"],
)  # fmt: skip
def test_a_time_or_an_offset_that_there_is_not_is_a_field_error(ada, caller, text):
    assert told(caller.sends(ada.site, timestamp=text)) == {"timestamp": ["There is no such time."]}


@pytest.mark.parametrize("offset", ["+23:59", "-23:59", "+00:00", "-00:00", "z", "+05:45"])
def test_every_offset_of_rfc_3339_is_one(ada, caller, offset):
    assert caller.sends(ada.site, timestamp=f"2024-02-29T11:59:59{offset}").status_code == 202


def test_a_currency_with_a_long_s_is_refused_over_http(ada, caller):
    payment = {"name": "payment", "amount": 1, "transaction_id": "t", "path": ...}
    assert shown(caller, ada.site, currency="gbp", **payment)["currency"] == "GBP"
    for text in ("u\u017fd", "\u0131sk", "\u212aRW", "ＧＢＰ"):
        refused = caller.sends(ada.site, name="payment", amount=1, transaction_id="t", currency=text)
        assert told(refused)["currency"] == ["Must be an ISO 4217 currency code such as EUR."]
        report = caller.get("/pixel/metrics/p_attributed_revenue", query_string={"currency": text})
        assert error(report) == (400, "invalid_query")


def test_a_proxy_that_names_no_country_in_ascii_names_none(app, ada, browser, monkeypatch):
    monkeypatch.setitem(app.config, "COUNTRY_HEADER", "X-Country")
    trust(app, monkeypatch, 1, "10.0.0.0/8")
    for sent in ("de", "ß", "ß".encode().decode("latin-1"), "D"):
        assert (
            fate(browser.sends(headers={"X-Country": sent, "X-Forwarded-For": "203.0.113.9"}))["status"] == "accepted"
        )
    assert [row["country"] for row in stored(app, ada.site)] == ["DE", "", "", ""]


@pytest.mark.parametrize("text", ["١٢", "1_000", "1\u00a0", "nan", "inf", "1e999", "１２", "0x10", "12,5", "--1", ""])
def test_a_value_that_a_page_gives_as_text_is_a_number_in_ascii_or_none(app, ada, browser, text):
    assert fate(browser.sends(name="custom", goal="g", props={"value": text}))["status"] == "accepted"
    assert fate(browser.sends(name="custom", goal="g", props={"value": " -12.5e1\n"}))["status"] == "accepted"
    assert [row["value"] for row in stored(app, ada.site)] == [None, -125]
    refused = browser.sends(name="payment", amount=text, currency="EUR", transaction_id="t")
    assert "amount" in told(refused)


def test_an_address_with_a_kelvin_sign_is_another_address():
    assert members.address("MarK@Example.com") == "mark@example.com"
    assert members.address("Mar\u212a@example.com") == "mar\u212a@example.com"


def test_a_filter_by_country_changes_ascii_letters_only(caller):
    asked = caller.get("/pixel/metrics/p_top_pages", query_string={"country": ["de", "ß", "\u0131t"]})
    assert asked.json["meta"]["query"]["filters"] == {"country": ["DE", "ß", "\u0131T"]}


@given(st.text())
def test_only_ascii_letters_change_their_case(text):
    for ours, python in ((letters.lower, str.lower), (letters.upper, str.upper)):
        assert ours(text) == "".join(python(letter) if letter.isascii() else letter for letter in text)
