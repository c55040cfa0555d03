"""User agents: the browser, operating system and kind of device of a person, or the name of a bot."""

import re
from datetime import date, datetime
from importlib.metadata import version
from typing import NamedTuple

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from ua_parser import Domain, RegexResolver, load_lazy_builtins

from pixel.text_cache import remember

#: No browser's text is longer; what follows is dropped unread.
MOST_CHARACTERS = 1000

DEVICES = {
    "desktop": "A computer.",
    "mobile": "A phone.",
    "tablet": "A tablet or reader. An iPad that asks for desktop pages says it is a Mac, and is counted as a desktop.",
    "tv": "A television, set-top box or game console.",
}


class Agent(NamedTuple):
    """What a user agent is; '' is unknown. A bot has a name and nothing else."""

    browser: str = ""
    os: str = ""
    device: str = ""
    bot: str = ""


class Source(NamedTuple):
    """A list that user agents are read by, and the day of its newest entry."""

    name: str
    version: str
    newest: date


def sources() -> list[Source]:
    """Where what is known here comes from."""
    crawlers, browsers = (version(name) for name in ("crawler-user-agents", "ua-parser-builtins"))
    added = max(crawler.get("addition_date", "") for crawler in CRAWLER_USER_AGENTS_DATA)
    return [
        Source("crawler-user-agents", crawlers, datetime.strptime(added, "%Y/%m/%d").date()),
        # It is numbered by its month.
        Source("ua-parser-builtins", browsers, datetime.strptime(browsers[:6], "%Y%m").date()),
    ]


def classify(user_agent: str) -> Agent:
    """What this user agent is. An empty or unknown one is not taken for a bot."""
    text = user_agent[:MOST_CHARACTERS]
    # In ASCII, so that remembered texts stay small and lone surrogates cannot reach the parser.
    return _classify(text if text.isascii() else text.encode("ascii", "replace").decode())


@remember(3 << 20)
def _classify(text: str) -> Agent:
    bot = _bot(text)
    if bot:
        return Agent(bot=bot)
    found = _PARSER(text, Domain.USER_AGENT | Domain.OS)
    browser = found.user_agent.family if found.user_agent else ""
    if "FxiOS/" in text:
        # Asking for desktop pages it puts its name where the patterns do not look.
        browser = "Firefox"
    os = found.os.family if found.os else ""
    return Agent(_BROWSERS.get(browser, browser), _SYSTEMS.get(os, os), _device(text))


# The device patterns are left out: they tell makers and models, not kinds, and take half of the memory.
_PARSER = RegexResolver((*load_lazy_builtins()[:2], ()))

# One name for one browser: the device is a column of its own.
_BROWSERS = {
    "Android": "Android Browser",
    "Baidu Explorer": "Baidu Browser",
    "Chrome Frame": "Internet Explorer",
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "Android Webview",
    "DuckDuckGo Mobile": "DuckDuckGo",
    "Ecosia Android": "Ecosia",
    "Ecosia iOS": "Ecosia",
    "Edge Mobile": "Edge",
    "Firefox Alpha": "Firefox",
    "Firefox Beta": "Firefox",
    "Firefox iOS": "Firefox",
    "Firefox Mobile": "Firefox",
    "Google": "Google app",
    "IE": "Internet Explorer",
    "IE Large Screen": "Internet Explorer",
    "IE Mobile": "Internet Explorer",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "Safari (in-app)",
    "MobileSafari": "Safari",
    "Opera Mobile": "Opera",
    "Other": "",
    "QQ Browser Mini": "QQ Browser",
    "QQ Browser Mobile": "QQ Browser",
}
# Only browsers packaged by a distribution name it: apart, Linux would be counted in two.
_DISTRIBUTIONS = [
    "Arch Linux", "BackTrack", "CentOS", "Debian", "Fedora", "Gentoo", "Kubuntu", "Lubuntu", "Mageia", "PCLinuxOS",
    "Puppy", "Red Hat", "SUSE", "Slackware", "Ubuntu", "openSUSE",
]  # fmt: skip
_SYSTEMS = dict.fromkeys(_DISTRIBUTIONS, "Linux") | {"Mac OS X": "macOS", "Mac OS": "macOS", "Other": ""}

_KINDS = (
    ("tv", r"smart-?tv|hbbtv|apple ?tv|google ?tv|android tv|\btv\b|netcast|web0s|webos\.tv|bravia|\bcrkey|\broku|"
           r"\baft[a-z]{1,3}\d?\b|playstation [345]|\bxbox|nintendo (?:wii|switch)"),
    ("tablet", r"ipad|tablet(?! pc)|playbook|kindle|\bkf[a-z]{2,5}\b|nexus (?:7|9|10)\b|\bsm-[tpx]\d|"
               r"^mozilla(?!.*mobi).*android"),
    ("mobile", r"iphone|ipod|mobi|android|blackberry|\bbb10|windows (?:phone|ce)|opera mini|nokia|symbian|series[46]0|"
               r"j2me|midp|maui|\bwap\b|ucweb|kaios|webos|palm"),
    ("desktop", r"windows|macintosh|mac os|x11|linux|\bcros\b|bsd\b|sunos|haiku"),
)  # fmt: skip
_KIND = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


def _device(text):
    text = text.lower()
    return next((kind for kind, pattern in _KIND if pattern.search(text)), "")


# Listed patterns that people's browsers match as well: a build of Android 15, apps with a browser inside, editors.
_PEOPLE = {r"AP3A\.240617\.008", "MetaIAB Facebook", r"Code\/1\.", r"Trae\/", "Fluid", "Sogou", r"mail\.ru"}
# Of apps in which people read pages and which fetch previews too: only the fetcher begins with the app's name.
_FETCHERS = ("WhatsApp", "Viber", r"Tumblr\/", r"Bluesky\/", r"Notion\/", r"Asana\/", r"Grammarly\/", r"PayPal\/")

# What the list misses: feed readers, command-line clients, libraries, and bots of their time.
_UNLISTED = [
    "Akregator", "Chef Client", "Claude-Code", "Dart/", "Deno/", "Ezooms", "Faraday", "FeedDemon", "GitHub-Hookshot",
    "Google Desktop",
    "GuzzleHttp", "Java-http-client", "Leechcraft", "Liferea", "Microsoft Office",
    "NetNewsWire", "Newsboat", "Newsify", "PostmanRuntime",
    "PycURL", "RSSOwl", "Reeder/", "RestSharp", "Sogou News Spider", "Sogou Pic Spider", "Sogou web spider", "Typhoeus",
    "UniversalFeedParser", "aria2/", "fetch libfetch", "insomnia/", "libcurl", "newsbeuter", "python-urllib3",
    "reqwest/", "rest-client", "undici",
]  # fmt: skip
_UNLISTED_AT_START = [
    "Bun/", "JNLP/", "Java/", "PHP/", "Python/", "Ruby", "Vienna/", "got/", "lwp-request", "node", "perl",
]  # fmt: skip

# Where the pattern is not the name.
_NAMES = {
    "Claudebot": "ClaudeBot",
    "PerplexityUser": "Perplexity-User",
    "Slurp": "Yahoo! Slurp",
    "Y!J": "Yahoo! Japan",
    "bingbot": "Bingbot",
    "claudebot": "ClaudeBot",
    "developers.google.com/+/web/snippet": "Google Web Snippet",
    "exabot": "Exabot",
    "pinterest.com/bot": "Pinterestbot",
    "siteexplorer.info": "SiteExplorer",
    "sindresorhus/got": "got",
    "wget": "Wget",
    "yandex.com/bots": "YandexBot",
}

_LITERAL = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^\w\s])+")
_WORD = re.compile(r"(?<![A-Za-z0-9])\S")


def _catalogue():
    """The listed patterns: literals by their first three characters, and one expression of all the others."""
    patterns = {crawler["pattern"].strip() for crawler in CRAWLER_USER_AGENTS_DATA} - _PEOPLE - {*_FETCHERS}
    literals = {pattern for pattern in patterns if _LITERAL.fullmatch(pattern) and len(pattern) > 2}
    others = sorted(patterns - literals) + [f"^{start}" for start in (*_FETCHERS, *_UNLISTED_AT_START)]
    by_start = {}
    texts = {re.sub(r"\\(.)", r"\1", literal) for literal in literals} | {*_UNLISTED}
    for text in sorted(texts, key=lambda text: (-len(text), text)):
        by_start.setdefault(text[:3], []).append(text)
    return by_start, re.compile("|".join(others))


_BY_START, _OTHERS = _catalogue()


def _bot(text):
    found = _literal(text) or _match(_OTHERS, text)
    if found:
        name = _short(found)
        return _NAMES.get(name, name)
    return _calls_itself_bot(text)


def _literal(text):
    """The first listed literal that begins a word: within one, 'ds9' is part of some phone's build."""
    for word in _WORD.finditer(text):
        start = word.start()
        for literal in _BY_START.get(text[start : start + 3], ()):
            if text.startswith(literal, start):
                return literal
    return ""


# A Cubot is a phone.
_BOT = re.compile(r"(?<!cu)bots?(?![a-z])|crawl|spider|scrape|scrapy|slurp|fetcher|headless|favicon")
_WORDS = re.compile(r"[\w!-][\w.!-]*", re.ASCII)
_ANY_BOT = {"bot", "crawler", "favicon", "fetcher", "robot", "robots", "scraper", "slurp", "spider", "webcrawler"}
_CONTACT = re.compile(r"\+ ?https?://|^(?!Mozilla/|Opera/).*https?://|[\w.]@[\w-]+\.[a-z]", re.ASCII)
_PRODUCT = re.compile(
    r"(?:Mozilla/\S+ \(compatible; )?(?!Mozilla)([A-Za-z][\w.!-]*(?: [A-Za-z][\w.!-]*){0,3})", re.ASCII
)


def _calls_itself_bot(text):
    """The name of a bot on no list that says it is one, or gives the address to complain to."""
    says_so = _BOT.search(text.lower())
    if says_so:
        word = next((word for word in _WORDS.findall(text) if _BOT.search(word.lower())), "")
        if word and _short(word).lower() not in _ANY_BOT:
            return _short(word)
    elif not _CONTACT.search(text):
        return ""
    product = _PRODUCT.match(text)
    return _short(product[1]) if product else "Other bot"


def _short(name):
    return name.strip(" .!-_/;()^")[:40].rstrip()


def _match(pattern, text):
    found = pattern.search(text)
    return found.group() if found else ""
