"""Where visits come from."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import sources

OWN = ("example.com", "www.shop.example.org")


def origin(referrer="", **tags):
    return sources.classify(referrer, OWN, tags)


REFERRERS = [
    ("", "Direct", "Direct", ""),
    ("www.google.com", "Organic Search", "Google", ""),
    ("GOOGLE.CO.UK", "Organic Search", "Google", ""),
    ("www.google.com.br:443", "Organic Search", "Google", ""),
    ("images.google.de.", "Organic Search", "Google", ""),
    ("encrypted.google.com", "Organic Search", "Google", ""),
    ("com.google.android.googlequicksearchbox", "Organic Search", "Google", ""),
    ("cn.bing.com", "Organic Search", "Bing", ""),
    ("r.duckduckgo.com", "Organic Search", "DuckDuckGo", ""),
    ("fr.search.yahoo.com", "Organic Search", "Yahoo!", ""),
    ("search.yahoo.co.jp", "Organic Search", "Yahoo!", ""),
    ("yandex.com.tr", "Organic Search", "Yandex", ""),
    ("www.baidu.com", "Organic Search", "Baidu", ""),
    ("m.search.naver.com", "Organic Search", "Naver", ""),
    ("search.brave.com", "Organic Search", "Brave Search", ""),
    ("kagi.com", "Organic Search", "Kagi", ""),
    ("docs.google.com", "Referral", "docs.google.com", ""),
    ("news.google.co.uk", "Referral", "news.google.co.uk", ""),
    ("translate.google.com", "Referral", "translate.google.com", ""),
    ("accounts.google.com", "Referral", "accounts.google.com", ""),
    ("finance.yahoo.com", "Referral", "finance.yahoo.com", ""),
    ("pan.baidu.com", "Referral", "pan.baidu.com", ""),
    ("notgoogle.com", "Referral", "notgoogle.com", ""),
    ("google.com.evil.example", "Referral", "google.com.evil.example", ""),
    ("google.evil", "Referral", "google.evil", ""),
    ("about.google", "Referral", "about.google", ""),
    ("reddit.com.evil.example", "Referral", "reddit.com.evil.example", ""),
    ("notexample.com", "Referral", "notexample.com", ""),
    ("www.www.debian.org", "Referral", "debian.org", ""),
    ("www.wikipedia.org", "Referral", "wikipedia.org", ""),
    ("bücher.example", "Referral", "xn--bcher-kva.example", ""),
    ("t.co", "Organic Social", "X", ""),
    ("lnkd.in", "Organic Social", "LinkedIn", ""),
    ("out.reddit.com", "Organic Social", "Reddit", ""),
    ("l.facebook.com", "Organic Social", "Facebook", ""),
    ("m.facebook.com", "Organic Social", "Facebook", ""),
    ("l.instagram.com", "Organic Social", "Instagram", ""),
    ("news.ycombinator.com", "Organic Social", "Hacker News", ""),
    ("tieba.baidu.com", "Organic Social", "Baidu Tieba", ""),
    ("m.youtube.com", "Organic Video", "YouTube", ""),
    ("player.vimeo.com", "Organic Video", "Vimeo", ""),
    ("mail.google.com", "Email", "Gmail", ""),
    ("com.google.android.gm", "Email", "Gmail", ""),
    ("outlook.live.com", "Email", "Outlook", ""),
    ("mail.yahoo.com", "Email", "Yahoo! Mail", ""),
    ("navigator.web.de", "Email", "WEB.DE", ""),
    ("suche.web.de", "Organic Search", "WEB.DE Search", ""),
    ("chatgpt.com", "AI Assistants", "ChatGPT", "chatgpt"),
    ("chat.openai.com", "AI Assistants", "ChatGPT", "chatgpt"),
    ("claude.ai", "AI Assistants", "Claude", "claude"),
    ("www.perplexity.ai", "AI Assistants", "Perplexity", "perplexity"),
    ("gemini.google.com", "AI Assistants", "Gemini", "gemini"),
    ("copilot.microsoft.com", "AI Assistants", "Microsoft Copilot", "copilot"),
    ("edgeservices.bing.com", "AI Assistants", "Microsoft Copilot", "copilot"),
    ("assistant.kagi.com", "AI Assistants", "Kagi Assistant", "kagi-assistant"),
    ("yiyan.baidu.com", "AI Assistants", "ERNIE Bot", "ernie"),
    ("grok.com", "AI Assistants", "Grok", "grok"),
]


@pytest.mark.parametrize(("referrer", "channel", "source", "llm_engine"), REFERRERS)
def test_a_referrer_is_known_by_its_host(referrer, channel, source, llm_engine):
    found = origin(referrer)
    assert (found.channel, found.source, found.llm_engine) == (channel, source, llm_engine)
    assert found.referrer == sources.normalise(referrer)


TAGGED = [
    ({"utm_source": " GOOGLE ", "utm_medium": "CPC"}, "Paid Search", "Google"),
    ({"utm_source": "google", "utm_medium": "organic"}, "Organic Search", "Google"),
    ({"utm_source": "google"}, "Organic Search", "Google"),
    ({"utm_source": "google", "gclid": "x"}, "Paid Search", "Google"),
    ({"utm_source": "fb", "utm_medium": "paid_social"}, "Paid Social", "Facebook"),
    ({"utm_source": "Facebook", "utm_medium": "cpc"}, "Paid Social", "Facebook"),
    ({"utm_source": "ig", "utm_medium": "social"}, "Organic Social", "Instagram"),
    ({"utm_source": "buffer", "utm_medium": "social-media"}, "Organic Social", "buffer"),
    ({"utm_source": "youtube", "utm_medium": "cpv"}, "Paid Video", "YouTube"),
    ({"utm_source": "yt"}, "Organic Video", "YouTube"),
    ({"utm_source": "Taboola", "utm_medium": "cpc"}, "Paid Other", "Taboola"),
    ({"utm_source": "partner", "utm_medium": "paidsearch"}, "Paid Search", "partner"),
    ({"utm_source": "Spring News", "utm_medium": "e-mail"}, "Email", "Spring News"),
    ({"utm_source": "newsletter"}, "Email", "newsletter"),
    ({"utm_medium": "email"}, "Email", "(not set)"),
    ({"utm_source": "newsletter", "utm_medium": "email", "gclid": "stale"}, "Email", "newsletter"),
    ({"utm_source": "awin", "utm_medium": "affiliate"}, "Affiliates", "awin"),
    ({"utm_source": "dv360", "utm_medium": "cpm"}, "Display", "dv360"),
    ({"utm_source": "blog.example", "utm_medium": "referral"}, "Referral", "blog.example"),
    ({"utm_source": "chatgpt.com"}, "AI Assistants", "ChatGPT"),
    ({"utm_source": "Perplexity", "utm_medium": "referral"}, "AI Assistants", "Perplexity"),
    ({"utm_source": "poster", "utm_medium": "qr"}, "Other Campaigns", "poster"),
    ({"utm_campaign": "spring"}, "Other Campaigns", "(not set)"),
    ({"utm_term": "shoes", "utm_content": "b"}, "Direct", "Direct"),
    ({"utm_source": "  ", "gclid": ""}, "Direct", "Direct"),
    ({"gclid": "x"}, "Paid Search", "Google"),
    ({"msclkid": "x"}, "Paid Search", "Bing"),
    ({"ttclid": "x"}, "Paid Social", "TikTok"),
    ({"fbclid": "x"}, "Organic Social", "Facebook"),
    ({"utm_source": "spring", "fbclid": "x"}, "Organic Social", "spring"),
]


@pytest.mark.parametrize(("tags", "channel", "source"), TAGGED)
def test_tags_say_where_a_visit_came_from(tags, channel, source):
    found = origin(**tags)
    assert (found.channel, found.source) == (channel, source)


def test_tags_go_before_click_ids_and_click_ids_before_the_referrer():
    assert origin("duckduckgo.com", utm_source="awin", utm_medium="affiliate", gclid="x").channel == "Affiliates"
    assert origin("duckduckgo.com", msclkid="x")[:2] == ("Paid Search", "Bing")
    assert origin("duckduckgo.com", utm_campaign="spring")[:4] == ("Organic Search", "DuckDuckGo", "", "spring")
    assert origin("duckduckgo.com", utm_medium="cpc")[:3] == ("Paid Search", "DuckDuckGo", "cpc")


def test_the_assistant_is_known_by_its_referrer_under_any_tags():
    found = origin("chatgpt.com", utm_source="newsletter", utm_medium="email")
    assert (found.channel, found.source, found.llm_engine) == ("Email", "newsletter", "chatgpt")


def test_an_fbclid_from_instagram_is_instagrams():
    assert origin("l.instagram.com", fbclid="x").source == "Instagram"
    assert origin("news.example", fbclid="x").source == "Facebook"
    assert origin("l.instagram.com", gclid="x").source == "Google"


def test_a_host_has_at_most_253_characters():
    longest = "a." * 126 + "a"
    assert origin(longest).referrer == longest
    assert origin(longest + "a") == ("Direct", "Direct", "", "", "", "")


def test_a_long_path_is_cut():
    assert len(sources.split_referrer("https://example.org/" + "a" * 50_000)[1]) == 4000


@pytest.mark.parametrize("host", ["example.com", "WWW.example.com.", "blog.example.com:8080", "eu.shop.example.org"])
def test_the_sites_own_hosts_are_no_referrer(host):
    assert origin(host) == ("Direct", "Direct", "", "", "", "")
    assert origin(host, gclid="x").referrer == ""


@pytest.mark.parametrize(
    ("url", "host", "cleaned"),
    [
        ("https://www.Google.com/search?q=secret#top", "google.com", "https://www.google.com/search"),
        ("HTTP://ada:pw@Example.org:8080/a/b", "example.org", "http://example.org:8080/a/b"),
        ("https://example.org", "example.org", "https://example.org"),
        ("https://example.org?token=x", "example.org", "https://example.org"),
        (r"https://example.org\@evil.example/", "example.org", "https://example.org"),
        ("android-app://com.google.android.gm/", "com.google.android.gm", "android-app://com.google.android.gm/"),
        ("http://[2001:db8::1]:80/x", "2001:db8::1", "http://[2001:db8::1]:80/x"),
        ("http://[2001:db8/x", "", ""),
        ("http://[2001:db8::1].example.com/x", "", ""),
        ("http://example.org:port/", "", ""),
        ("http://example org/", "", ""),
        ("javascript:alert(1)", "", ""),
        ("about:blank", "", ""),
        ("//example.org/", "", ""),
        ("http:///x", "", ""),
        ("http://-.-/", "", ""),
        ("", "", ""),
    ],
)
def test_a_referrer_address_keeps_no_secrets(url, host, cleaned):
    assert sources.split_referrer(url) == (host, cleaned)


# Text with lone surrogates, and text made of the pieces that hosts and addresses are made of.
ANY_TEXT = st.text(st.characters()) | st.text(st.characters(categories=["Cs", "Ll"]))
HOST_TEXT = st.lists(
    st.sampled_from(
        ["www.", "google", ".com", ".", "example", ":", "[", "]", "::1", "xn--", "ß", "．", "@", "/", "A", " "]
    )
).map("".join)
TEXT = ANY_TEXT | HOST_TEXT
TAGS = st.dictionaries(
    st.sampled_from(["utm_source", "utm_medium", "utm_campaign", "utm_term", "gclid", "fbclid", "msclkid", "ttclid"]),
    TEXT,
)


@given(TEXT, TAGS)
def test_any_visit_has_a_channel_a_source_and_a_normalised_referrer(referrer, tags):
    found = sources.classify(referrer, OWN, tags)
    assert found.channel in sources.CHANNELS
    assert found.source
    assert found.referrer == sources.normalise(referrer) or found.referrer == ""
    assert found.referrer == sources.normalise(found.referrer)


@given(HOST_TEXT, st.sampled_from(OWN))
def test_nothing_below_an_own_host_is_a_referrer(label, own):
    assert sources.classify(f"{label}.{own}", OWN, {}).referrer == ""


@given(TEXT)
def test_any_text_splits_into_a_normalised_host_and_an_address_that_splits_the_same(text):
    for url in (text, "https://" + text):
        host, cleaned = sources.split_referrer(url)
        assert host == sources.normalise(host)
        assert not {"?", "#", "@"} & set(cleaned.partition("://")[2].partition("/")[0])
        assert sources.split_referrer(cleaned) == (host, cleaned)


def test_every_known_host_is_normalised_and_of_a_channel():
    assert len(sources._HOSTS) > 300
    for host, known in sources._HOSTS.items():
        name = host.removeprefix("=")
        assert name.endswith(".*") or sources.normalise(name) == name
        assert known.channel in sources.CHANNELS


@pytest.mark.parametrize(
    "hostile", ["a" * 50_000, "a." * 25_000, "www." * 12_500, ":" * 50_000, "[" * 50_000, "ü." * 25_000]
)
def test_a_hostile_text_is_cheap(hostile):
    started = time.process_time()
    for _ in range(10):
        sources.classify(hostile, OWN, {"utm_source": hostile, "utm_medium": hostile})
        sources.split_referrer("https://" + hostile)
    assert time.process_time() - started < 0.2
