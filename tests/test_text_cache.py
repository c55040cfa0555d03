"""What is remembered of outside text takes no more memory than it may, whatever the texts are."""

import ast
import gc
import tracemalloc
from pathlib import Path

import pytest

from pixel import agents, collect, events, geo, redaction, sources
from pixel.intake import fields
from pixel.text_cache import BUDGET_BYTES, CACHES, remember

#: The longest hostile texts that reach each cache, made of a number that differs each time.
WIDE = "\U0001f600"
FLOODS = {
    sources._look_up: lambda n: (f"{n}.{WIDE * 290}",),
    agents._classify: lambda n: (f"{n} {'Mozilla/5.0 ' * 82}",),
    events._tags_of: lambda n: ("&".join(f"{tag}={n}{WIDE * 400}" for tag in events.TAGS),),
    events._origin_of: lambda n: (
        f"https://{n}.example/{WIDE * 900}", "a.example", f"{n}{WIDE * 240}",
        tuple((tag, f"{n}{WIDE * 400}") for tag in events.TAGS),
    ),
    fields._split: lambda n: (f"https://a.example/{n}{WIDE * 900}?{WIDE * 2900}",),
    redaction._without_last_part: lambda n: (f"{n:x}{WIDE * 40}.x",),
    geo._country: lambda n: (f"{n:x}{WIDE * 40}",),
    collect._host_of: lambda n: (f"https://{n}.example/" + "é" * 7000,),
}  # fmt: skip


def growth(ask, arguments, most):
    """The memory that `ask` keeps when it was called with more distinct arguments than it may keep."""
    gc.collect()
    tracemalloc.start()
    try:
        before, number, sent = tracemalloc.get_traced_memory()[0], 0, 0
        while sent < 3 * most:
            asked = arguments(number)
            sent += sum(len(str(argument)) for argument in asked) + 160
            ask(*asked)
            number += 1
        del asked
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        ask.forget()


def test_every_cache_is_flooded_here_and_all_together_fit_in_the_budget():
    assert {cache for cache, _ in CACHES if cache.__module__.startswith("pixel.")} == set(FLOODS)
    assert sum(most for cache, most in CACHES if cache in FLOODS) <= BUDGET_BYTES


@pytest.mark.parametrize("cache", FLOODS, ids=lambda cache: f"{cache.__module__}.{cache.__name__}")
def test_a_flood_of_long_texts_takes_no_more_than_a_cache_may(cache, monkeypatch):
    # Whatever a user agent is, it takes a while to find out.
    monkeypatch.setattr(agents, "_bot", lambda text: text[:40])
    most = dict(CACHES)[cache]
    cache.forget()
    assert growth(cache, FLOODS[cache], most) <= most


@pytest.mark.parametrize("length", [1, 10, 100, 1000, 10_000])
@pytest.mark.parametrize("letter", ["a", "é", "ж", WIDE])
def test_texts_of_any_length_take_no_more_than_a_cache_may(length, letter):
    most = 256 << 10
    cache = remember(most)(lambda text, other: {"text": text + "x", "other": (other, None, 5)})
    CACHES.pop()
    assert growth(cache, lambda n: (f"{n}{letter * length}", f"{letter * length}{n}"), most) <= most


def test_a_result_is_computed_once_while_it_is_in_use_and_again_after_a_flood():
    computed = []

    def double(text):
        computed.append(text)
        return text * 2

    cache = remember(64 << 10)(double)
    CACHES.pop()
    for number in range(5000):
        assert cache("kept") == "keptkept"
        assert cache(str(number)) == str(number) * 2
    assert computed.count("kept") == 1
    assert cache("0") == "00"
    assert computed.count("0") == 2
    assert cache("x" * 64_000) == "x" * 128_000
    cache.forget()
    cache("kept")
    assert computed.count("kept") == 2


#: Modules whose `lru_cache` takes short texts only: addresses of at most 53 characters, and marks of a few.
SHORT_TEXTS = ("forwarding.py", "foreign_text.py")


def test_no_other_cache_holds_texts_without_a_limit_in_bytes():
    """`lru_cache` is for numbers, up to 64 of them; `cache` for functions that take no outside text."""
    for file in (Path(__file__).parent.parent / "pixel").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lru_cache":
                assert node.args[0].value <= (4096 if file.name in SHORT_TEXTS else 64), file
