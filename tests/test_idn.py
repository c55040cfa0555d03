"""Host names in Unicode."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import idn, sources, websites

#: Names that exist, and their ASCII form in a browser.
NAMES = {
    "bücher.example": "xn--bcher-kva.example",
    "MÜNCHEN.de": "xn--mnchen-3ya.de",
    "москва.рф": "xn--80adxhks.xn--p1ai",
    "пример.испытание": "xn--e1afmkfd.xn--80akhbyknj4f",
    "中国.cn": "xn--fiqs8s.cn",
    "例え.jp": "xn--r8jz45g.jp",
    "日本語。jp": "xn--wgv71a119e.jp",
    "みんな.jp": "xn--q9jyb4c.jp",
    "ελλάδα.gr": "xn--hxakic4aa.gr",
    "مثال.إختبار": "xn--mgbh0fb.xn--kgbechtv",
    "موقع.وزارة-الاتصالات.مصر": "xn--4gbrim.xn----ymcbaaajlc6dj7bxne2c.xn--wgbh1c",
    "ישראל.קום": "xn--4dbrk0ce.xn--9dbq2a",
    "हिन्दी.भारत": "xn--j2bd4cyah0f.xn--h2brj9c",
    "நாடு.இந்தியா": "xn--mlcr0en.xn--xkc2dl3a5ee0h",
    "한국.kr": "xn--3e0b707e.kr",
    "ทดสอบ.ไทย": "xn--l3cfk7dp.xn--o3cw4h",
    "i❤.ws": "xn--i-7iq.ws",
    "😀.example": "xn--e28h.example",
    "café.fr": "xn--caf-dma.fr",
    "cafe\u0301.fr": "xn--caf-dma.fr",
    "øl.dk": "xn--l-4ga.dk",
    "łódź.pl": "xn--d-uga0v4h.pl",
    "žluťoučký.cz": "xn--luouk-uva4it5a4g.cz",
    "ığdır.tr": "xn--dr-wna5ec.tr",
    "İstanbul.com.tr": "xn--istanbul-o0e.com.tr",
    "Ａｂｃ.com": "abc.com",
    "a\u00adb.com": "ab.com",
}
#: Names that Python's codec (IDNA 2003) encodes as other names. Browsers follow UTS 46, non-transitional.
CHANGED = {
    "straße.de": ("strasse.de", "xn--strae-oqa.de"),
    "ẞ.de": ("ss.de", "xn--zca.de"),
    "βόλος.com": ("xn--nxasmq6b.com", "xn--nxasmm1c.com"),
    "نامه\u200cای.com": ("xn--mgba3gch31f.com", "xn--mgba3gch31f060k.com"),
}


@pytest.mark.parametrize(("name", "ascii"), NAMES.items())
def test_a_name_is_encoded_as_browsers_and_the_former_codec_do(name, ascii):
    assert idn.to_ascii(name) == sources.normalise(name) == websites.checked_domain(f"https://{name}/") == ascii
    assert codecs.encode(name, "idna").decode().lower() == ascii


@pytest.mark.parametrize(("name", "forms"), CHANGED.items())
def test_a_name_of_which_the_former_codec_made_another_is_encoded_as_browsers_do(name, forms):
    assert (codecs.encode(name, "idna").decode(), idn.to_ascii(name)) == forms


@pytest.mark.parametrize(
    "name",
    ["a" * 254, "ü" * 64, "ü" * 60 + ".example", "ü." * 60, "\ufdfa" * 59, "\u0301a.de", "a\u200cb.de", "b\u05d0.de",
     "\ud800.de", "ü" * 100_000, "\ufdfa." * 100_000, "ü." + "a" * 64],
    ids=lambda name: ascii(name)[:20],
)  # fmt: skip
def test_a_name_that_is_too_long_or_not_valid_has_no_form(name):
    assert idn.to_ascii(name) == ""
    with pytest.raises(ValueError, match="is no domain"):
        websites.checked_domain(name)


def test_the_longest_names_have_a_form():
    assert idn.to_ascii("a" * 253 + ".") == "a" * 253 + "."
    longest = idn.to_ascii("ü" + "a" * 55)
    assert longest == "xn--" + ("ü" + "a" * 55).encode("punycode").decode()
    assert len(longest) == 63


@given(st.text(st.sampled_from("aéßσςжあ한\u0660\U0001f600-"), min_size=1, max_size=30))
def test_labels_are_encoded_as_the_codec_of_python_does(text):
    assert text.isascii() or idn._punycode(text, 1000).encode() == text.encode("punycode")


@given(st.text(max_size=300) | st.text(st.sampled_from("aü.。\u0301\u200c한\ufdfaא"), max_size=300))
def test_a_form_is_ascii_and_has_no_more_than_253_characters(text):
    form = idn.to_ascii(text)
    assert form.isascii()
    assert len(form.removesuffix(".")) <= 253
    assert text.isascii() or all(len(label) <= 63 for label in form.split("."))
