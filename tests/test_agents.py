"""What user agents are."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import agents

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
WEBVIEW = "Mozilla/5.0 (Linux; Android 15; CPH2557 Build/AP3A.240617.008; wv) AppleWebKit/537.36 (KHTML, like Gecko)"
KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"

PEOPLE = [
    (f"{WINDOWS} {KHTML} Chrome/126.0.0.0 Safari/537.36", "Chrome", "Windows", "desktop"),
    (f"{WINDOWS} {KHTML} Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0", "Edge", "Windows", "desktop"),
    (f"{WINDOWS} {KHTML} Chrome/126.0.0.0 Safari/537.36 OPR/111.0.0.0", "Opera", "Windows", "desktop"),
    (f"{WINDOWS[:-1]}; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox", "Windows", "desktop"),
    ("Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer", "Windows", "desktop"),
    (
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0; .NET4.0C)",
        "Internet Explorer",
        "Windows",
        "desktop",
    ),
    (
        f"{MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
        "Safari",
        "macOS",
        "desktop",
    ),
    (f"{MAC} {KHTML} Chrome/126.0.0.0 Safari/537.36", "Chrome", "macOS", "desktop"),
    ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox", "Linux", "desktop"),
    (f"Mozilla/5.0 (X11; Linux x86_64) {KHTML} Chrome/126.0.0.0 Safari/537.36", "Chrome", "Linux", "desktop"),
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {KHTML} Chrome/126.0.0.0 Safari/537.36",
        "Chrome",
        "Chrome OS",
        "desktop",
    ),
    (f"{IPHONE} Version/17.5 Mobile/15E148 Safari/604.1", "Safari", "iOS", "mobile"),
    (f"{IPHONE} CriOS/126.0.6478.35 Mobile/15E148 Safari/604.1", "Chrome", "iOS", "mobile"),
    (f"{IPHONE} FxiOS/127.0 Mobile/15E148 Safari/605.1.15", "Firefox", "iOS", "mobile"),
    (f"{IPHONE} Mobile/15E148", "Safari (in-app)", "iOS", "mobile"),
    (f"{IPHONE} Mobile/21F79 Instagram 335.0.1.27.82 (iPhone14,5; iOS 17_5; de_DE)", "Instagram", "iOS", "mobile"),
    (
        "Mozilla/5.0 (iPad; CPU OS 12_5_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 "
        "Mobile/16H62 Safari/604.1",
        "Safari",
        "iOS",
        "tablet",
    ),
    (f"{ANDROID} Chrome/126.0.0.0 Mobile Safari/537.36", "Chrome", "Android", "mobile"),
    (f"{ANDROID} Chrome/126.0.0.0 Safari/537.36", "Chrome", "Android", "tablet"),
    (f"{ANDROID} SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36", "Samsung Internet", "Android", "mobile"),
    ("Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0", "Firefox", "Android", "mobile"),
    (f"{WEBVIEW} Version/4.0 Chrome/126.0.0.0 Mobile Safari/537.36", "Android Webview", "Android", "mobile"),
    (
        "Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/120.4.1 like Chrome/120 "
        "Safari/537.36",
        "Amazon Silk",
        "Android",
        "tablet",
    ),
    (
        f"Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) {KHTML} 76.0.3809.146/6.0 TV Safari/537.36",
        "Safari",
        "Tizen",
        "tv",
    ),
    ("Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16", "Opera", "Linux", "desktop"),
]


@pytest.mark.parametrize(("user_agent", "browser", "os", "device"), PEOPLE)
def test_a_person_has_a_browser_a_system_and_a_device(user_agent, browser, os, device):
    assert agents.classify(user_agent) == (browser, os, device, "")


@pytest.mark.parametrize(
    "user_agent",
    [
        f"{WEBVIEW} Version/4.0 Chrome/142.0.0.0 Mobile Safari/537.36 MetaIAB Facebook",
        f"{WEBVIEW} Version/4.0 Chrome/142.0.0.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/353.0.0.34.116;]",
        f"{ANDROID} Version/4.0 Chrome/126.0.0.0 Mobile Safari/537.36 Viber/22.5",
        f"{MAC} {KHTML} WhatsApp/2.2424.0 Chrome/91.0.4472.164 Electron/13.6.9 Safari/537.36",
        f"{WINDOWS} {KHTML} Code/1.115.0 Chrome/142.0.7444.265 Electron/39.8.5 Safari/537.36",
        "Mozilla/5.0 (Linux; Android 9; Eluga I8 Build/PPR1.180610.011; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Version/4.0 Chrome/121.0.6167.178 Mobile Safari/537.36 Instagram 340.0.0.14.109 Android (28/9; Eluga I8)",
        "Mozilla/5.0 (Linux; Android 7.0; CUBOT NOTE Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
        "Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; U; Android 5.1; zh-cn; 1501_M02 Build/LMY47D) AppleWebKit/534.30 (KHTML, like Gecko) "
        "Version/4.0 Mobile Safari/534.30 SogouMSE,SogouMobileBrowser/4.1.0",
        f"{WINDOWS} {KHTML} Chrome/126.0.0.0 Safari/537.36 SE 2.X MetaSr 1.0",
        f"Mozilla/5.0 (Linux; Android 13; OPds9x Build/TP1A.220624.014) {KHTML} Chrome/126.0.0.0 Mobile Safari/537.36",
        "Instagram 3.0.4 Android (8/2.2.1; 240dpi; 480x800; HTC/verizon_wwe; ADR6400L; mecha; mecha; en_US)",
        "",
        "-",
        "Mozilla/5.0",
    ],
)
def test_a_person_is_not_taken_for_a_bot(user_agent):
    assert agents.classify(user_agent).bot == ""


BOTS = [
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    (
        f"{ANDROID} Chrome/126.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Googlebot",
    ),
    ("Googlebot-Image/1.0", "Googlebot-Image"),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; GPTBot/1.2; +https://openai.com/gptbot)", "GPTBot"),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; ChatGPT-User/1.0; +https://openai.com/bot)", "ChatGPT-User"),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot", "OAI-SearchBot"),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", "ClaudeBot"),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; Claude-User/1.0; +Claude-User@anthropic.com)", "Claude-User"),
    (
        f"Mozilla/5.0 {KHTML[:-1]}; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
        "PerplexityBot",
    ),
    (f"Mozilla/5.0 {KHTML[:-1]}; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "Bingbot"),
    ("Mozilla/5.0 (compatible; Bytespider; spider-feedback@bytedance.com)", "Bytespider"),
    ("CCBot/2.0 (https://commoncrawl.org/faq/)", "CCBot"),
    ("meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", "meta-externalagent"),
    ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "YandexBot"),
    ("Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)", "Yahoo! Slurp"),
    ("Mozilla/5.0 (compatible; Ezooms/1.0; help@moz.com)", "Ezooms"),
    ("Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)", "Sogou web spider"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "facebookexternalhit"),
    ("WhatsApp/2.23.20.0 A", "WhatsApp"),
    ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Slackbot"),
    (f"Mozilla/5.0 (X11; Linux x86_64) {KHTML[:-1]}) HeadlessChrome/126.0.0.0 Safari/537.36", "HeadlessChrome"),
    ("Tiny Tiny RSS/1.11 (http://tt-rss.org/)", "Tiny Tiny RSS"),
    ("UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/", "UniversalFeedParser"),
    ("FeedBurner/1.0 (http://www.FeedBurner.com)", "FeedBurner"),
    ("Feedbin - 1 subscribers", "Feedbin"),
    ("Digg Feed Fetcher 1.0 (Mozilla/5.0 (Macintosh; Intel Mac OS X 10_7_1))", "Digg Feed Fetcher"),
    ("curl/8.7.1", "curl"),
    ("Wget/1.21.4", "Wget"),
    ("python-requests/2.32.3", "python-requests"),
    ("Go-http-client/2.0", "Go-http-client"),
    ("Java/17.0.9", "Java"),
    ("libwww-perl/6.05", "libwww-perl"),
    ("Chef Client/10.18.2 (ruby-1.9.3-p327; ohai-6.16.0; x86_64-linux; +http://opscode.com)", "Chef Client"),
    ("Mozilla/5.0 (compatible; NeverHeardOfBot/0.1)", "NeverHeardOfBot"),
    ("NeverHeardOf/0.1 (+https://never.example)", "NeverHeardOf"),
    ("x" * 60 + "bot/1.0", "x" * 40),
    ("-" * 60 + "roverbot/1.0", "roverbot"),
    ("x" * 60 + "/1.0 (+https://never.example)", "x" * 40),
    (f"{WINDOWS} (spider)", "Other bot"),
]


@pytest.mark.parametrize(("user_agent", "name"), BOTS)
def test_a_bot_has_a_name_and_nothing_else(user_agent, name):
    assert agents.classify(user_agent) == ("", "", "", name)


def test_what_is_past_the_longest_browser_is_not_read():
    assert agents.classify(" " * agents.MOST_CHARACTERS + "Googlebot/2.1") == ("", "", "", "")


# Lone surrogates too, and text made of what user agents are made of.
PIECES = st.sampled_from([
    "Mozilla/5.0 (", "compatible; ", "bot", "Bot/", "crawl", "Android ", "Mobi", "tablet", "http://", "+", "@", ".a",
    "; wv)", "Chrome/1", "é", "\ud800", "\0", "\n", " ",
])  # fmt: skip
TEXT = st.text(st.characters()) | st.lists(PIECES).map("".join)


@given(TEXT)
def test_any_text_is_a_person_on_a_kind_of_device_or_a_short_name(text):
    agent = agents.classify(text)
    assert agent.device in {"", *agents.DEVICES}
    assert len(agent.bot) <= 40
    assert agent.bot.isascii()
    assert agent.bot == agent.bot.strip()
    assert not (agent.bot and (agent.browser or agent.os or agent.device))


@pytest.mark.parametrize(
    "piece", ["a", "bot", "(", "Mozilla/5.0 (", "a@", "1.", "ContextualBot", "\ud800", "ü", " http:"]
)
def test_a_hostile_text_is_cheap(piece):
    agents.classify("warm")
    hostile = (piece * 50_000)[:50_000]
    started = time.process_time()
    agents.classify(hostile)
    assert time.process_time() - started < 0.02
