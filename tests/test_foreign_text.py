"""Text of other people: its marks, its shortening, and the names that are refused."""

import html
import json
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import foreign_text
from pixel.foreign_text import code_text, event_text, message_text, plain_text, short_text, whole_text

#: Characters that are often used to hide or turn text, from every class that is marked.
UNSEEN = (
    "\0\t\n\x1b\x7f\x85\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u2000\u2007\u200b\u200c\u200d\u200e\u200f"
    "\u2028\u2029\u202a\u202d\u202e\u202f\u205f\u2060\u2064\u2066\u2067\u2068\u2069\u206a\u206f\u2800\u3000\u3164\ud800"
    "\ue000\ufe00\ufe0f\ufeff\uffa0\ufff9\ufffe\U00016fe4\U0001d159\U0001d173\U000e0001\U000e0041\U000e007f\U000e0100"
    "\U000f0000\U0010ffff"
)
#: Texts that people write, with characters that are unseen elsewhere.
LEGITIMATE = [
    "/preise/größe?a=1&b=2", "/日本語/ページ", "/שלום/עולם", "/مرحبا", "/привет", "می‌خواهم", "क्‍ष", "ന്‍", "র‍্য", "👩‍👩‍👧", "👩🏽‍🚀", "🏳️‍🌈",
    "❤️", "☀︎", "1️⃣", "🙂‍↔️", "🇩🇪", "葛󠄀飾区", "e\u0301", "נִקּוּד", "\u06dd", "x̲̅", "\U0001fae8", "ᠠ᠋",
]  # fmt: skip
ALL = [event_text, short_text, message_text, code_text]
_MARK = re.compile(r'<span class="mark"(?: title="([^"]*)")?>([^<]*)</span>')


class Reader(HTMLParser):
    """The elements of a piece of HTML, and its text without marks."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(_MARK.sub("", markup))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *attrs))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("character", UNSEEN, ids=lambda c: f"U+{ord(c):04X}")
def test_an_unseen_character_is_shown_as_its_code_point(character):
    code = f"U+{ord(character):04X}"
    text = f"a{character}b"
    for show in (event_text, short_text, message_text):
        assert Reader(show(text)).text == "ab"
        ((title, mark),) = _MARK.findall(show(text))
        assert mark == code
        assert title.startswith(code)
    assert plain_text(text) == f"a[{code}]b"
    ((title, mark),) = (
        _MARK.findall(code_text(text)) if character not in "\t\n" else [("", json.dumps(character)[1:-1])]
    )
    assert json.loads(f'"{mark}"') == character
    with pytest.raises(ValueError, match=re.escape(code)):
        foreign_text.checked_name(text)


def test_a_mark_names_its_character():
    assert 'title="U+202E RIGHT-TO-LEFT OVERRIDE">U+202E<' in short_text("\u202e")
    assert 'title="U+0007 CONTROL">U+0007<' in short_text("\a")
    assert ">U+200B ×2,000<" in message_text("\u200b" * 2000)
    assert ">U+200B U+200C ×2 U+200D and 2 more<" in short_text("a\u200b\u200c\u200c\u200d\u200b\u200db")
    assert ">U+200B U+200C U+200B U+200C" in whole_text("\u200b\u200c" * 60)


@pytest.mark.parametrize("text", LEGITIMATE)
def test_legitimate_text_stays_as_it_is(text):
    for show in ALL:
        assert "mark" not in show(text)
        assert Reader(show(text)).text == text
    assert plain_text(text).strip("\u2068\u2069") == text
    assert foreign_text.checked_name(text) == text


@pytest.mark.parametrize(
    "text", ["a\u200db", "\u200d👩", "👩\u200d", "👩\u200d\u200d👧", "می\u200c", "می\u200c\u200cخ", "a\ufe0f", "1\ufe0f", "\ufe0f❤",
             "a\U000e0100", "\u200cक", "خ\u200cक"],
)  # fmt: skip
def test_a_joiner_or_selector_without_its_letters_is_marked(text):
    assert "mark" in short_text(text)


def test_every_code_point_of_an_unseen_category_is_marked_and_no_other():
    # All code points that are assigned one by one; what is left is the same for thousands of neighbours.
    codes = [
        *range(0x3400),
        *range(0x9F00, 0xAC10),
        *range(0xD700, 0x20010),
        *range(0xE0000, 0xE1010),
        0xF0000,
        0x10FFFF,
    ]
    marked = {
        ord(character)
        for _, mark in _MARK.findall(code_text("a" + "a".join(map(chr, codes)) + "a"))
        for character in json.loads(f'"{html.unescape(mark)}"')
    }
    seen_formats = {
        ord(c) for c in "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    }
    blanks = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x16FE4, 0x1D159}
    selectors = {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x180B, 0x180C, 0x180D, 0x180F}
    expected = {code for code in codes if unicodedata.category(chr(code))[0] in "CZ"} | blanks | selectors
    emoji = {code for code in range(0x1F000, 0x1FB00) if unicodedata.category(chr(code)) == "Cn"}
    assert marked == expected - seen_formats - emoji - {0x09, 0x0A, 0x20}


def test_spaces_that_a_browser_drops_are_marked_but_not_in_code():
    assert Reader(short_text(" a  b ")).text == "a b"
    assert len(_MARK.findall(short_text(" a  b "))) == 3
    assert code_text("  a  b\n\tc ") == "  a  b\n\tc "
    assert short_text("   ").count("×3") == 1


def test_a_letter_keeps_four_combining_marks_and_the_rest_are_counted():
    text = "e" + "\u0301\u0316" * 20 + "x\u0301"
    assert Reader(short_text(text)).text == "e\u0301\u0316\u0301\u0316x\u0301"
    assert _MARK.findall(short_text(text)) == [("36 more combining marks", "+36 combining")]
    assert plain_text(text) == "e\u0301\u0316\u0301\u0316[+36 combining]x\u0301"
    assert "mark" in short_text("\u0301a")
    assert Reader(short_text("\u0301a")).text == "a"
    assert json.loads('"' + html.unescape(re.sub("<[^>]*>", "", code_text(text))) + '"') == text


def test_a_long_text_shows_its_ends_and_all_of_it_on_demand():
    text = "/start" + "x" * 500 + "/end"
    shown = event_text(text)
    short, whole = re.fullmatch(r'<div class="long">(<bdi>.*</bdi>)(<details.*</details>)</div>', shown).groups()
    assert Reader(short).text == "/start" + "x" * 54 + "…" + "x" * 35 + "/end"
    assert whole == f'<details class="whole"><summary>All 510 characters</summary><bdi>{text}</bdi></details>'
    assert (short_text(text), whole_text(text)) == (short, whole)
    assert plain_text(text) == Reader(short).text
    assert "…" not in event_text("x" * 100)
    assert whole_text("x" * 100) == ""


def test_a_text_is_not_cut_within_a_sequence():
    family = "👩\u200d👩\u200d👧"
    for length in range(12):
        text = "x" * (50 + length) + family * 3 + "y" * (40 - length) + "e\u0301" * 20
        assert "mark" not in short_text(text)


def test_nothing_is_nothing():
    for nothing in (None, ""):
        assert not event_text(nothing)
        assert not short_text(nothing)
        assert not whole_text(nothing)
        assert plain_text(nothing) == ""


def test_right_to_left_text_is_isolated_where_no_element_can_stand():
    assert plain_text("שלום") == "\u2068שלום\u2069"
    assert plain_text("日本 é") == "日本 é"
    assert short_text("שלום") == "<bdi>שלום</bdi>"


TEXTS = (
    st.text(st.sampled_from("ab </>&\"'{}e\u0301\u0316\u200b\u200d\u202e\u2028\ufe0f👩❤مी्日שa\xa0\t\n"), max_size=300)
    | st.text()
)


@given(TEXTS)
def test_any_text_is_text_and_nothing_in_it_is_lost(text):
    for show in ALL:
        tags = {element[0] for element in Reader(show(text)).elements}
        assert tags <= {"bdi", "div", "details", "summary", "span"}
        assert "\u202e" not in show(text)
    # Marks of code are JSON escapes: with them the text is whole.
    assert _from_code(code_text(text)) == text
    assert not set(plain_text(text)[1:-1]) & set("\u202e\u200b\u2028\0\xa0\t\n")


def _from_code(markup):
    read = re.split(r'<span class="mark" title="[^"]*">([^<]*)</span>', markup)
    return "".join(
        json.loads(f'"{html.unescape(part)}"') if n % 2 else html.unescape(part) for n, part in enumerate(read)
    )


@pytest.mark.parametrize(
    "unit",
    ["a\u200b", "\u202e", "\u200b\u200c", "e\u0301", "\u0301\u0302", "<&\"'", "日", "👩\u200d", "\ud800", "  "],
    ids=ascii,
)
def test_the_answer_to_a_hostile_text_is_in_proportion_to_it(unit):
    lengths = []
    for many in (1000, 2000, 4000):
        text = (unit * many)[:many]
        lengths.append(len(event_text(text)))
        assert len(code_text(text)) <= 60 * many
        assert len(plain_text(text)) <= 20 * foreign_text.MOST_SHOWN
    assert lengths[-1] <= 30 * 4000
    assert lengths[2] - lengths[1] <= 2.1 * (lengths[1] - lengths[0]) + 100


# -- names


@pytest.mark.parametrize(
    "name",
    [
        "\u3164",
        "\u2800\u2800",
        "\u200b",
        "\u00ad",
        "\u202eevil",
        "a\u2066b",
        "\u0301",
        "a\xa0b",
        "\U000e0041",
        "e" + "\u0301" * 5,
    ],
)
def test_a_name_that_cannot_be_read_is_refused(name):
    with pytest.raises(ValueError, match=r"U\+|combining"):
        foreign_text.checked_name(name)


@pytest.mark.parametrize("name", ["", "   ", "\xa0", "\u2028\n", "x" * 101])
def test_a_name_has_1_to_100_characters(name):
    with pytest.raises(ValueError, match="1 to 100"):
        foreign_text.checked_name(name)


def test_a_name_is_stored_without_the_white_space_around_it():
    assert foreign_text.checked_name("\n  Größe 日本 👩‍👧 \xa0") == "Größe 日本 👩‍👧"
