"""Where a visit came from: its channel, source, medium, campaign, referrer and, if one sent it, AI assistant."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pixel import idn, letters
from pixel.text_cache import remember

CHANNELS = {
    "Direct": "No referrer, tags or click id: typed, bookmarked, or from an app that tells nothing.",
    "Organic Search": "A search engine's unpaid results.",
    "Paid Search": "An advertisement on a search engine, known by utm_medium or a click id (gclid, msclkid).",
    "Organic Social": "A post or message on a social network or forum.",
    "Paid Social": "An advertisement on a social network, known by utm_medium or a click id (ttclid).",
    "Organic Video": "A page of a video site.",
    "Paid Video": "An advertisement on a video site, known by utm_medium.",
    "AI Assistants": "A link in an AI assistant's answer; llm_engine says whose.",
    "Email": "A mail program's web page or app, or a campaign tagged as email or newsletter.",
    "Affiliates": "A link tagged with utm_medium affiliate.",
    "Display": "A banner: utm_medium display, banner, cpm and the like.",
    "Paid Other": "Paid for, says utm_medium, but at a source of no known kind.",
    "Referral": "A link on another website.",
    "Other Campaigns": "Tagged with utm parameters that fit no other channel.",
}


class Origin(NamedTuple):
    """Where a visit came from. All but channel and source may be ''; a source no one named is `(not set)`."""

    channel: str
    source: str
    medium: str = ""
    campaign: str = ""
    referrer: str = ""
    llm_engine: str = ""


class Known(NamedTuple):
    """A source by the name and the unpaid channel it is known for."""

    name: str
    channel: str
    llm_engine: str = ""


def classify(referrer_host: str, own_hosts: Collection[str], tags: Mapping[str, str]) -> Origin:
    """The origin of a visit: by utm tags, else click id, else referrer, else direct.

    `own_hosts` and all below them are no referrer. `tags` holds what is given of the utm parameters and click ids.
    """
    referrer, referring = _referrer(referrer_host, own_hosts)
    tags = {name: value.strip() for name, value in tags.items() if value}
    utm_source, medium = tags.get("utm_source", ""), tags.get("utm_medium", "").lower()
    campaign = tags.get("utm_campaign", "")
    tagged = _named(utm_source) if utm_source else None
    click = next((click for name, click in _CLICK_IDS.items() if tags.get(name)), None) if tags else None
    known = tagged if utm_source else (click and _at(click, referring)) or referring

    if utm_source or medium:
        channel = _tagged_channel(utm_source.lower(), medium, known, click)
    elif click:
        channel = _paid(known) if click.paid else known.channel
    elif referrer:
        channel = known.channel if known else "Referral"
    else:
        channel = "Other Campaigns" if campaign else "Direct"
    source = known.name if known else utm_source or referrer or ("Direct" if channel == "Direct" else "(not set)")
    llm_engine = (tagged and tagged.llm_engine) or (referring and referring.llm_engine) or ""
    return Origin(channel, source, medium, campaign, referrer, llm_engine)


def _referrer(host, own_hosts):
    """The referring host and what it is known for: none if it is the site's own."""
    if len(host) > _MOST_CHARACTERS:
        return "", None
    host, known = _look_up(host)
    return ("", None) if _is_own(host, own_hosts) else (host, known)


def _is_own(host, own_hosts):
    return any(host == own or host.endswith("." + own) for own in (_look_up(own)[0] for own in own_hosts) if own)


def _tagged_channel(utm_source, medium, known, click):
    """The channel of utm tags. A medium says most; then a click id that only advertisements have; then the source."""
    channel = known.channel if known else ""
    if channel == "AI Assistants":
        return channel
    if medium in _PAID_MEDIA or medium.startswith("paid"):
        return next((paid for word, paid in _PAID_WORDS.items() if word in medium), _paid(known))
    if medium in _MEDIA:
        return _MEDIA[medium]
    if click and click.paid:
        return _paid(known) if channel in _PAID else _paid(click.known)
    if "social" in medium:
        return "Organic Social"
    if "video" in medium:
        return "Organic Video"
    return channel or _MEDIA.get(utm_source) or (click.known.channel if click else "Other Campaigns")


def _paid(known):
    return _PAID.get(known.channel, "Paid Other") if known else "Paid Other"


def _at(click, referring):
    """Whose click id it is: Meta adds Facebook's on all its networks, so a referrer that is one of them is nearer."""
    return referring if referring and click.known.name == "Facebook" and referring.name in _META else click.known


def split_referrer(url: str) -> tuple[str, str]:
    """The normalised host of a referrer and its address without user, query and fragment, which may hold secrets.

    Both are '' unless it is an http, https or android-app address.
    """
    found = _URL.match(url[:_MOST_URL].strip())
    if not found:
        return "", ""
    scheme, authority, path = found.groups()
    authority = letters.lower(authority.rpartition("@")[2].strip())
    host = normalise(authority)
    return (host, f"{scheme.lower()}://{authority}{path}") if host else ("", "")


def normalise(host: str) -> str:
    """Return a host in lower case, in ASCII, without `www.`, port and trailing dot, or '' if it is not a host."""
    host = host[: _MOST_CHARACTERS + 1].strip()
    if host.startswith("["):
        address, _, port = host[1:].lower().partition("]")
        return address if _PORT.fullmatch(port) and _IPV6.fullmatch(address) else ""
    name, colon, port = host.partition(":")
    if _PORT.fullmatch(colon + port):
        host = name
    host = idn.to_ascii(host).removesuffix(".")
    while host.startswith("www.") and "." in host[4:]:
        host = host[4:]
    return host if _HOST.fullmatch(host) or _IPV6.fullmatch(host) else ""


@remember(512 << 10)
def _look_up(host: str) -> tuple[str, Known | None]:
    """Return a host as (normalised, Known or None)."""
    host = normalise(host)
    return host, _known(host)


def _named(utm_source: str) -> Known | None:
    """Return the source that a utm_source means: by its name, another name of it, or one of its hosts."""
    if len(utm_source) > _MOST_CHARACTERS or not utm_source.isascii():
        # All listed names and hosts are ASCII.
        return None
    return _NAMES.get(utm_source.lower()) or _look_up(utm_source)[1]


def _known(host):
    for name in filter(None, (host, _in_any_country(host))):
        if "=" + name in _HOSTS:
            return _HOSTS["=" + name]
        while name:
            if name in _HOSTS:
                return _HOSTS[name]
            name = name.partition(".")[2]
    return None


def _in_any_country(host):
    """`news.google.co.uk` as `news.google.*`, for the few that have a domain in every country."""
    name, _, last = host.rpartition(".")
    if len(last) == 2:
        name = name.removesuffix(".com").removesuffix(".co")
    elif last != "com":
        return ""
    return name + ".*" if name.rpartition(".")[2] in _EVERYWHERE else ""


_MOST_CHARACTERS = 300
_MOST_URL = 4000
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_PORT = re.compile(r"(:[0-9]*)?")
_IPV6 = re.compile(r"(?=.*:.*:)[0-9a-f:]{2,39}")
_URL = re.compile(
    r"(https?|android-app)://([^/?#\\\s]+)(?=[/?#\\]|\Z)((?:/[^?#\x00-\x20\x7f\ud800-\udfff]*)?)",
    re.IGNORECASE | re.ASCII,
)

# In the lists below, a host stands for itself and all below it; with "=" for itself alone, its neighbours being other
# services; with ".*" for itself in every country. A word without a dot is another name that utm_source may have.

_EVERYWHERE = {"google", "yahoo", "yandex"}

_ASSISTANTS = {
    "andi": ("Andi", "andisearch.com"),
    "character-ai": ("Character.AI", "character.ai"),
    "chatglm": ("ChatGLM", "chatglm.cn chat.z.ai"),
    "chatgpt": ("ChatGPT", "chatgpt.com chat.openai.com com.openai.chatgpt openai gpt"),
    "claude": ("Claude", "claude.ai com.anthropic.claude anthropic"),
    "consensus": ("Consensus", "consensus.app"),
    "copilot": (
        "Microsoft Copilot",
        "copilot.microsoft.com copilot.com copilot.cloud.microsoft m365.cloud.microsoft edgeservices.bing.com "
        "com.microsoft.copilot copilot bingchat",
    ),
    "deepseek": ("DeepSeek", "deepseek.com com.deepseek.chat"),
    "doubao": ("Doubao", "doubao.com"),
    "duck-ai": ("Duck.ai", "duck.ai"),
    "ernie": ("ERNIE Bot", "yiyan.baidu.com chat.baidu.com ernie"),
    "felo": ("Felo", "felo.ai"),
    "gemini": ("Gemini", "gemini.google.com bard.google.com com.google.android.apps.bard bard"),
    "genspark": ("Genspark", "genspark.ai"),
    "grok": ("Grok", "grok.com x.ai ai.x.grok"),
    "iask": ("iAsk", "iask.ai"),
    "kagi-assistant": ("Kagi Assistant", "assistant.kagi.com"),
    "kimi": ("Kimi", "kimi.com kimi.moonshot.cn kimi.ai"),
    "komo": ("Komo", "komo.ai"),
    "liner": ("Liner", "liner.com getliner.com"),
    "lmarena": ("LMArena", "lmarena.ai"),
    "manus": ("Manus", "manus.im"),
    "meta-ai": ("Meta AI", "meta.ai metaai"),
    "mistral": ("Mistral", "chat.mistral.ai lechat le-chat"),
    "monica": ("Monica", "monica.im"),
    "notebooklm": ("NotebookLM", "notebooklm.google.com"),
    "perplexity": ("Perplexity", "perplexity.ai ai.perplexity.app.android"),
    "phind": ("Phind", "phind.com"),
    "pi": ("Pi", "pi.ai"),
    "poe": ("Poe", "poe.com com.poe.android"),
    "qwen": ("Qwen", "qwen.ai tongyi.aliyun.com tongyi.com qianwen.com"),
    "venice": ("Venice", "venice.ai"),
    "you": ("You.com", "you.com"),
    "yuanbao": ("Yuanbao", "yuanbao.tencent.com"),
}

_SEARCH_ENGINES = {
    "AOL": "search.aol.com =aol.com",
    "Ask": "ask.com",
    "Baidu": "=baidu.com =m.baidu.com =image.baidu.com",
    "Bing": "bing.com com.microsoft.bing",
    "Brave Search": "search.brave.com brave",
    "Coc Coc": "coccoc.com",
    "Daum": "search.daum.net =daum.net",
    "Dogpile": "dogpile.com",
    "DuckDuckGo": "duckduckgo.com com.duckduckgo.mobile.android ddg",
    "Ecosia": "ecosia.org com.ecosia.android",
    "Exalead": "exalead.com",
    "Excite": "excite.com excite.co.jp",
    "GMX Search": "suche.gmx.net search.gmx.com",
    "Gibiru": "gibiru.com",
    "Goo": "search.goo.ne.jp =goo.ne.jp",
    "Google": (
        "=google.* images.google.* encrypted.google.* ipv4.google.* ipv6.google.* search.google.* cse.google.* "
        "=google.cat com.google.android.googlequicksearchbox adwords googleads google-ads google_ads"
    ),
    "Info.com": "=info.com",
    "Kagi": "kagi.com",
    "Lycos": "lycos.com",
    "Mail.ru Search": "go.mail.ru",
    "Marginalia": "search.marginalia.nu marginalia-search.com",
    "MetaGer": "metager.org metager.de",
    "Mojeek": "mojeek.com",
    "Naver": "search.naver.com =naver.com =m.naver.com com.nhn.android.search",
    "Petal Search": "petalsearch.com",
    "Presearch": "presearch.com presearch.org",
    "Qwant": "qwant.com",
    "Rambler": "=rambler.ru nova.rambler.ru",
    "SearXNG": "searx.be searx.me searx.space priv.au",
    "Seznam": "search.seznam.cz =seznam.cz",
    "Shenma": "sm.cn",
    "So.com": "so.com haosou.com",
    "Sogou": "sogou.com",
    "Startpage": "startpage.com ixquick.com",
    "Swisscows": "swisscows.com swisscows.ch",
    "T-Online": "suche.t-online.de",
    "WEB.DE Search": "suche.web.de",
    "Webcrawler": "webcrawler.com",
    "Yahoo!": "search.yahoo.* =yahoo.* yahoo",
    "Yandex": "=yandex.* =ya.ru =m.yandex.* ru.yandex.searchplugin",
    "Yep": "yep.com",
    "Youdao": "youdao.com",
}

_SOCIAL_NETWORKS = {
    "Badoo": "badoo.com",
    "Baidu Tieba": "tieba.baidu.com",
    "Bluesky": "bsky.app bsky.social go.bsky.app xyz.blueskyweb.app",
    "Discord": "discord.com discordapp.com com.discord",
    "Disqus": "disqus.com",
    "Douban": "douban.com",
    "Dribbble": "dribbble.com",
    "Facebook": "facebook.com fb.com fb.me fbcdn.net com.facebook.katana com.facebook.lite fb facebook-ads meta",
    "Flickr": "flickr.com",
    "Flipboard": "flipboard.com flipboard.app",
    "Hacker News": "news.ycombinator.com hackernews hn",
    "Instagram": "instagram.com ig.me com.instagram.android ig insta",
    "KakaoTalk": "story.kakao.com kakao.com com.kakao.talk",
    "LINE": "line.me jp.naver.line.android",
    "Lemmy": "lemmy.world lemmy.ml",
    "LinkedIn": "linkedin.com lnkd.in com.linkedin.android",
    "LiveJournal": "livejournal.com",
    "Lobsters": "lobste.rs",
    "Mastodon": "mastodon.social mastodon.online mastodon.cloud mstdn.social mas.to fosstodon.org hachyderm.io",
    "Medium": "medium.com com.medium.reader",
    "Meetup": "meetup.com",
    "Messenger": "messenger.com com.facebook.orca",
    "Mixi": "mixi.jp",
    "Naver Blog": "blog.naver.com cafe.naver.com",
    "Nextdoor": "nextdoor.com",
    "Odnoklassniki": "ok.ru odnoklassniki.ru",
    "Pinterest": (
        "pinterest.com pin.it pinterest.co.uk pinterest.de pinterest.fr pinterest.es pinterest.it pinterest.ca "
        "pinterest.at pinterest.ch pinterest.jp pinterest.com.au pinterest.com.mx pinterest.se com.pinterest"
    ),
    "Product Hunt": "producthunt.com",
    "Quora": "quora.com",
    "Reddit": "reddit.com redd.it com.reddit.frontpage",
    "Renren": "renren.com",
    "Slack": "slack.com com.slack com.slack.android",
    "Snapchat": "snapchat.com com.snapchat.android",
    "Substack": "substack.com",
    "Telegram": "t.me telegram.me telegram.org org.telegram.messenger",
    "Threads": "threads.net threads.com com.instagram.barcelona",
    "TikTok": "tiktok.com com.zhiliaoapp.musically com.ss.android.ugc.trill",
    "Tumblr": "tumblr.com com.tumblr",
    "VK": "vk.com vk.ru vkontakte.ru com.vkontakte.android vkontakte",
    "Viber": "viber.com com.viber.voip",
    "WeChat": "wechat.com weixin.qq.com com.tencent.mm weixin",
    "Weibo": "weibo.com weibo.cn t.cn sinaweibo",
    "WhatsApp": "whatsapp.com wa.me com.whatsapp",
    "X": "x.com twitter.com t.co com.twitter.android twitter tw",
    "XING": "xing.com",
    "Xiaohongshu": "xiaohongshu.com xhslink.com rednote.com",
    "Zalo": "zalo.me",
    "Zhihu": "zhihu.com",
}

_VIDEO_SITES = {
    "Bilibili": "bilibili.com b23.tv",
    "Dailymotion": "dailymotion.com dai.ly",
    "Douyin": "douyin.com",
    "Kick": "=kick.com",
    "Niconico": "nicovideo.jp nico.ms",
    "Odysee": "odysee.com",
    "PeerTube": "joinpeertube.org framatube.org",
    "Rumble": "rumble.com",
    "Rutube": "rutube.ru",
    "TED": "ted.com",
    "Twitch": "twitch.tv tv.twitch.android.app",
    "Vimeo": "vimeo.com",
    "Wistia": "wistia.com wistia.net",
    "YouTube": "youtube.com youtu.be youtube-nocookie.com com.google.android.youtube yt",
    "Youku": "youku.com",
    "iQIYI": "iqiyi.com",
}

_MAIL = {
    "163 Mail": "mail.163.com mail.126.com",
    "AOL Mail": "mail.aol.com",
    "Comcast Mail": "connect.xfinity.com",
    "Daum Mail": "mail.daum.net",
    "Fastmail": "fastmail.com",
    "Free Mail": "webmail.free.fr zimbra.free.fr",
    "GMX": "gmx.net gmx.com gmx.de navigator.gmx.net",
    "Gmail": "mail.google.com inbox.google.com com.google.android.gm",
    "Libero Mail": "mail.libero.it mail1.libero.it",
    "Mail.ru": "e.mail.ru touch.mail.ru",
    "Naver Mail": "mail.naver.com",
    "Orange Mail": "messagerie.orange.fr mail01.orange.fr",
    "Outlook": (
        "outlook.com outlook.live.com outlook.office.com outlook.office365.com mail.live.com hotmail.com "
        "safelinks.protection.outlook.com com.microsoft.office.outlook"
    ),
    "Proton Mail": "mail.proton.me mail.protonmail.com protonmail.com ch.protonmail.android",
    "QQ Mail": "mail.qq.com",
    "Rambler Mail": "mail.rambler.ru",
    "Seznam Email": "email.seznam.cz",
    "T-Online Mail": "email.t-online.de",
    "Tuta": "mail.tutanota.com app.tuta.com",
    "WEB.DE": "web.de navigator.web.de",
    "Yahoo! Mail": "mail.yahoo.* com.yahoo.mobile.client.android.mail",
    "Yandex Mail": "mail.yandex.*",
    "Zoho Mail": "mail.zoho.com mail.zoho.eu mail.zoho.in",
    "iCloud Mail": "=icloud.com",
}


def _list():
    """All the lists as (hosts, names): what a host and what a word means."""
    hosts, names = {}, {}
    lists = [
        (_SEARCH_ENGINES, "Organic Search"),
        (_SOCIAL_NETWORKS, "Organic Social"),
        (_VIDEO_SITES, "Organic Video"),
        (_MAIL, "Email"),
    ]
    entries = [(Known(name, channel), words) for names_, channel in lists for name, words in names_.items()]
    entries += [
        (Known(name, "AI Assistants", engine), f"{engine} {words}") for engine, (name, words) in _ASSISTANTS.items()
    ]
    for known, words in entries:
        names[known.name.lower()] = known
        for word in words.split():
            (hosts if "." in word else names)[word] = known
    return hosts, names


_HOSTS, _NAMES = _list()


class Click(NamedTuple):
    """Whose click id it is, and whether only advertisements have it."""

    known: Known
    paid: bool


# Facebook adds fbclid to every link that leaves it, so that it does not tell a paid click from another.
_CLICK_IDS = {
    "gclid": Click(_NAMES["google"], paid=True),
    "msclkid": Click(_NAMES["bing"], paid=True),
    "ttclid": Click(_NAMES["tiktok"], paid=True),
    "fbclid": Click(_NAMES["facebook"], paid=False),
}
_META = {"Facebook", "Instagram", "Messenger", "Threads", "WhatsApp"}

_PAID = {"Organic Search": "Paid Search", "Organic Social": "Paid Social", "Organic Video": "Paid Video"}
_PAID_MEDIA = {"cpa", "cpc", "cpl", "cpp", "cpv", "ppc", "ppv", "remarketing", "retargeting", "sem"}
_PAID_WORDS = {"search": "Paid Search", "sem": "Paid Search", "social": "Paid Social", "video": "Paid Video"}

_MEDIA = {
    word: channel
    for channel, words in {
        "Affiliates": "affiliate,affiliates,affiliation",
        "Display": "banner,banners,cpm,display,expandable,interstitial,native,programmatic",
        "Email": "email,e-mail,e_mail,e mail,mail,newsletter,newsletters",
        "Organic Search": "organic",
        "Organic Social": "sm,social-network,social network,social_network",
        "Referral": "app,link,referral",
    }.items()
    for word in words.split(",")
}
