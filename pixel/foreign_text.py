"""Text that other people wrote, made safe to read on pages and in mails; and the rules for names.

Events, requests and user agents bring any text. A character in it is *unseen* when it shows nothing or changes how the
text around it is shown. A page shows a mark with the code point for it. Unseen are:

- control, format, private-use, surrogate and unassigned characters, line and paragraph separators, and every white
  space except U+0020 (the Unicode categories C, Zl, Zp and Zs); this covers bidi controls, zero-width characters,
  the soft hyphen and tags;
- the characters of BLANKS, which have other categories and no shape;
- a space at the start or end of a text or after another space, because a browser drops it;
- a variation selector, except after a character that it can change;
- a combining mark without a base character.

These characters are not unseen, because text needs them:

- U+200D between two emoji, or between two letters or marks of one script that joins letters; U+200C between the latter;
- both of them after a virama;
- the Arabic and Syriac format characters that have a shape, such as U+06DD;
- unassigned code points of the emoji blocks, which a newer Unicode version may have assigned.

A base character keeps at most MOST_COMBINING combining marks; one mark says how many more there are. The functions take
time and space in proportion to the length of the text.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup, escape

#: A longer text is shortened.
MOST_SHOWN = 100
#: Characters at the end of a shortened text. Paths often differ only there.
_TAIL = 39
MOST_COMBINING = 4
LONGEST_NAME = 100
#: The longest run of characters whose mark is cached: a cache of outside text is bounded by bytes, here below 1 MB.
_MOST_CACHED = 4
#: Characters of a mark that are spelled out in a shortened text.
_MOST_SPELLED = 3
#: Texts of common letters, none of which is unseen or combines: the quick way for most of them.
_COMMON = re.compile(r"[ -~¡-¬®-ſА-яЁёぁ-ゖァ-ヺー一-鿯가-힣]*")
_COMMON_LINES = re.compile(r"[\n\t -~¡-¬®-ſА-яЁёぁ-ゖァ-ヺー一-鿯가-힣]*")
#: A run of such letters without the space, which may be unseen.
_COMMON_RUN = re.compile(r"[!-~¡-¬®-ſА-яЁёぁ-ゖァ-ヺー一-鿯가-힣]+")

#: Characters without a shape whose category is that of letters, marks or symbols.
BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00016fe4\U0001d159")
#: Format characters with a shape (Unicode property Prepended_Concatenation_Mark).
_SHAPED_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_ZWNJ, _ZWJ = "\u200c", "\u200d"
#: Blocks of scripts in which joiners choose the shape of a letter: Arabic and its relatives, those of India, Myanmar,
#: Khmer and Mongolian.
_JOINING = (
    ("\u0600", "\u08ff"),
    ("\u0900", "\u0dff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u1800", "\u18af"),
)
_EMOJI = ("\U0001f000", "\U0001faff")
#: Emoji that are not symbols by their category.
_OTHER_EMOJI = frozenset("‼⁉ℹ〰")
_IDEOGRAPHS = (("\u3400", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"))
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))
_WITHOUT_NAME = {"Cc": "CONTROL", "Co": "PRIVATE USE", "Cs": "SURROGATE", "Cn": "UNASSIGNED"}


class Unseen(NamedTuple):
    """A run of characters that are shown as one mark. `combining` is set for marks beyond the limit of their base."""

    characters: str
    combining: bool = False


# -- for pages


def event_text(text: str | None) -> Markup:
    """Return a text for a block such as a table cell: isolated, marked, and shortened with the whole text on demand."""
    short = short_text(text)
    if len(text or "") <= MOST_SHOWN:
        return short
    return Markup('<div class="long">{}{}</div>').format(short, whole_text(text))


def short_text(text: str | None) -> Markup:
    """Return a text for a line, such as a link: isolated, marked and shortened."""
    if not text:
        return Markup("")
    return Markup("<bdi>{}</bdi>").format(_ELLIPSIS.join(_marked(text, *ends) for ends in _ends(text)))


def whole_text(text: str | None) -> Markup:
    """Return an element that opens the whole of a text that `short_text` shortens; nothing for any other text."""
    if text is None or len(text) <= MOST_SHOWN:
        return Markup("")
    return Markup('<details class="whole"><summary>All {} characters</summary><bdi>{}</bdi></details>').format(
        f"{len(text):,}", _marked(text, 0, len(text), brief=False)
    )


def message_text(text: str) -> Markup:
    """Return a sentence of this program that quotes typed text: marked, neither isolated nor shortened."""
    return _marked(text, 0, len(text))


def code_text(text: str) -> Markup:
    """Return a text for a `<pre>`: its marks are JSON escapes, so that a copy of the text means the same."""
    return Markup("").join(
        escape(part) if isinstance(part, str) else _MARK.format(_title(part), _escaped(part))
        for part in _parts(text, 0, len(text), lines=True)
    )


def plain_text(text: str | None) -> str:
    """Return a text for where no element can stand: an attribute, an option, a title, a mail.

    Marks are code points in brackets. A text with right-to-left letters stands between isolating characters.
    """
    if not text:
        return ""
    shown = "…".join(
        "".join(part if isinstance(part, str) else f"[{_spelled(part)}]" for part in _parts(text, *ends))
        for ends in _ends(text)
    )
    if shown.isascii() or _RIGHT_TO_LEFT.isdisjoint(map(unicodedata.bidirectional, shown)):
        return shown
    return f"\u2068{shown}\u2069"


# -- for names


def checked_name(text: str, what: str = "A name", least: int = 1, most: int = LONGEST_NAME) -> str:
    """Return a name without the white space around it. Raise ValueError unless people can read it.

    All characters are seen, so a name has at least one visible character.
    """
    name = text.strip()
    if not least <= len(name) <= most:
        raise ValueError(f"{what} has {least} to {most} characters.")
    refuse_unseen(name, what)
    return name


def refuse_unseen(text: str, what: str) -> None:
    """Raise ValueError, with its code point, for the first unseen character; or for too many combining marks."""
    for part in _parts(text, 0, len(text), spaces=False):
        if isinstance(part, str):
            continue
        if part.combining:
            raise ValueError(f"{what} has at most {MOST_COMBINING} combining marks on one letter.")
        raise ValueError(
            f"{what} must not contain {_named(part.characters[0])}, which is invisible or changes the text around it. "
            "Remove it."
        )


# -- how a text is read

_MARK = Markup('<span class="mark" title="{}">{}</span>')
_MARK_WITHOUT_TITLE = Markup('<span class="mark">{}</span>')
_ELLIPSIS = Markup('<span class="cut">…</span>')


def _marked(text: str, start: int, stop: int, brief: bool = True) -> Markup:
    """Return a part of a text with its marks. The marks of a `brief` text have titles and few code points."""
    shown: list[str] = []
    for part in _parts(text, start, stop):
        if isinstance(part, str):
            shown.append(escape(part))
        elif len(part.characters) <= _MOST_CACHED:
            shown.append(_cached_mark(part, brief))
        else:
            shown.append(_mark(part, brief))
    # Each of them is escaped.
    return Markup("".join(shown))  # noqa: S704


def _mark(unseen: Unseen, brief: bool) -> Markup:
    if brief:
        return _MARK.format(_title(unseen), _spelled(unseen))
    return _MARK_WITHOUT_TITLE.format(_spelled(unseen, len(unseen.characters)))


#: Most marks stand for one character, and a hostile text has thousands.
_cached_mark = lru_cache(2048)(_mark)


def _parts(text: str, start: int, stop: int, lines: bool = False, spaces: bool = True) -> Iterator[str | Unseen]:
    """Yield a part of a text as visible runs and Unseen runs, in order.

    With `lines`, a text has lines, tabs and indents. With `spaces`, spaces that a browser drops are unseen.
    """
    spaces = spaces and not lines
    common = _COMMON_LINES if lines else _COMMON
    if common.fullmatch(text, start, stop) and not (spaces and _has_dropped_space(text)):
        yield text[start:stop]
        return
    combined = 0
    kinds: list[str | None] = []
    for place in range(start, stop):
        if place < start + len(kinds):
            continue
        if common_run := _COMMON_RUN.match(text, place, stop):
            kinds += [None] * (common_run.end() - place)
            combined = 0
            continue
        character = text[place]
        if lines and character in "\n\t":
            kinds.append(None)
            combined = 0
            continue
        before, after, category = text[place - 1 : place], text[place + 1 : place + 2], unicodedata.category(character)
        combines = category in ("Mn", "Me")
        if character == " ":
            kind = "unseen" if spaces and (before in ("", " ") or not after) else None
        elif _is_unseen(before, character, after):
            kind = "unseen"
        elif combines and not _is_selector(character):
            if place == start or kinds[-1] == "unseen":
                kind = "unseen"
            else:
                combined += 1
                kind = "combining" if combined > MOST_COMBINING else None
        else:
            kind = None
        if not combines and character not in (_ZWJ, _ZWNJ) and category != "Mc":
            combined = 0
        kinds.append(kind)
    place = start
    for kind, run in groupby(kinds):
        end = place + sum(1 for _ in run)
        characters = text[place:end]
        yield Unseen(characters, kind == "combining") if kind else characters
        place = end


def _has_dropped_space(text: str) -> bool:
    return text[:1] == " " or text[-1:] == " " or "  " in text


def _is_unseen(before: str, character: str, after: str) -> bool:
    """Return whether a character is unseen, by itself and by the characters around it."""
    if character in BLANKS:
        return True
    if character.isprintable():
        return _is_selector(character) and not _can_vary(before, character, after)
    if character == _ZWJ and (_is_emoji(before) or before == "\ufe0f") and _is_emoji(after):
        return False
    if character in (_ZWJ, _ZWNJ):
        return not (_is_virama(before) or _joins(before, after))
    if _is_selector(character):
        return not _can_vary(before, character, after)
    if unicodedata.category(character) == "Cn":
        return not _is_emoji(character)
    return character not in _SHAPED_FORMATS


def _is_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef" or (
        "\u180b" <= character <= "\u180f" and character != "\u180e"
    )  # fmt: skip


def _can_vary(before: str, selector: str, after: str) -> bool:
    """Return whether a variation selector has a character before it that it can change."""
    if selector in "\ufe0e\ufe0f":
        return _is_emoji(before) or (before != "" and before in "0123456789#*" and after == "\u20e3")
    if selector <= "\u180f":
        return "\u1820" <= before <= "\u18aa"
    return before != "" and any(first <= before <= last for first, last in _IDEOGRAPHS)


def _is_emoji(character: str) -> bool:
    """Return whether a character may be an emoji: Python knows categories, but not emoji."""
    if not character or character.isascii():
        return False
    if _EMOJI[0] <= character <= _EMOJI[1] or character in _OTHER_EMOJI:
        return True
    return character not in BLANKS and unicodedata.category(character) in ("So", "Sm")


def _is_virama(character: str) -> bool:
    return bool(character) and unicodedata.combining(character) == 9


def _joins(before: str, after: str) -> bool:
    """Return whether both are letters or marks of one script that joins letters."""
    if not before or not after or {unicodedata.category(c)[0] for c in (before, after)} - {"L", "M"}:
        return False
    return any(first <= before <= last and first <= after <= last for first, last in _JOINING)


def _ends(text: str) -> list[tuple[int, int]]:
    """Return the parts of a text that are shown: all of it, or its start and its end."""
    if len(text) <= MOST_SHOWN:
        return [(0, len(text))]
    head, tail = MOST_SHOWN - 1 - _TAIL, len(text) - _TAIL
    head = next((place for place in range(head, head - 16, -1) if _is_boundary(text, place)), head)
    tail = next((place for place in range(tail, tail + 16) if _is_boundary(text, place)), tail)
    return [(0, head), (tail, len(text))]


def _is_boundary(text: str, place: int) -> bool:
    """Return whether a text can be cut before this place without taking a sequence apart."""
    return (
        unicodedata.category(text[place])[0] != "M"
        and text[place] not in (_ZWJ, _ZWNJ)
        and text[place - 1] not in (_ZWJ, _ZWNJ)
    )


# -- what a mark says


def _spelled(unseen: Unseen, most: int = _MOST_SPELLED) -> str:
    """Return the code points of a run: "U+200B ×3 U+202E"."""
    if unseen.combining:
        return f"+{len(unseen.characters):,} combining"
    runs = [(character, sum(1 for _ in run)) for character, run in groupby(unseen.characters)]
    codes = [_code(character) + (f" ×{count:,}" if count > 1 else "") for character, count in runs[:most]]
    rest = sum(count for _, count in runs[most:])
    return " ".join(codes) + (f" and {rest:,} more" if rest else "")


def _title(unseen: Unseen) -> str:
    """Return the names of a run's first characters."""
    if unseen.combining:
        return f"{len(unseen.characters):,} more combining marks"
    distinct = list(dict.fromkeys(unseen.characters))
    names = ", ".join(map(_named, distinct[:_MOST_SPELLED]))
    return names + (f" and {len(distinct) - _MOST_SPELLED:,} others" if len(distinct) > _MOST_SPELLED else "")


def _escaped(unseen: Unseen) -> str:
    return json.dumps(unseen.characters)[1:-1]


def _named(character: str) -> str:
    """Return the code point and the name of a character."""
    name = unicodedata.name(character, "") or _WITHOUT_NAME.get(unicodedata.category(character), "")
    return f"{_code(character)} {name}".rstrip()


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
