"""Passwords that are on lists, or that follow a pattern, and what it costs to find out."""

import random
import string
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel import members, passwords, turns
from tests.browser import conftest as browser
from tests.pages import PASSWORD

GUESSABLE = """
1234567890123456
password12345678
PasswordPassword1!
P@ssw0rdP@$$w0rd
p 4 s s w o r d 1 2 3
qwertyuiopasdfghjkl
qwertyuiopasdfghjklzxcvbnm
1qaz2wsx3edc4rfv
zaq12wsxcde34rfv
!@#$%^&*()_+!@#$
monkeymonkeymonkey
trustno1trustno1
letmeinletmein123
letmeinplease123
superman superman
password password
thisismypassword
my password is password
iloveyouforever
iloveyousomuch1
harrypotter12345
newyorkyankees1
administrator123
Summer2024!Summer2024!
november2024november
abcdefghijklmnopqrstuvwxyz
aaaaaaaaaaaaaaaaaaaaaaaa
aaaaabbbbbccccc
ababababababababab
correcthorsebatterystaple
correct horse battery staple
pixelanalytics1
""".strip().splitlines()
FINE = [
    PASSWORD,
    browser.PASSWORD,
    "five other plain words",
    "another four plain words",
    "six quite ordinary words",
    "these words are enough",
    "kfzqwmtrvdxhjpb",
    "Vr7-kQ2-xT9-mB4",
    "der Hund frisst gelbe Kirschen",
    "日本語のパスワードは十五文字以上です",
    "w" * 64 + "ords and more",
    "b7f3 9a0c 55e1 77d2 " * 6,
]
#: What was most expensive among thousands of inputs that a search changed step by step, each as long as is accepted.
HOSTILE = {
    "all substitutions": "4@8({[<369&#!1|0$5+7%2" * 6,
    "substitutions": "4@31!05$7" * 15,
    "pairs": "".join(letter * 2 for letter in string.ascii_lowercase) * 3,
    "pairs and substitutions": "IabbccbdeEffgghhiijjkkllmmnnooppqqrrs571074rA$0@112o11331122" * 2,
    "one letter": "a" * 128,
    "two letters": "1221" * 32,
    "dates": "12.12.2012/" * 12,
    "years": "1999" * 32,
    "words": "thepassworddragonmonkey" * 6,
    "keyboard": "qwertyuiop[]asdfghjkl;" * 6,
    "sequences": "11121314151617181920" * 7,
    "longer in lower case": "İ" * 128,
}


@pytest.mark.case(78)
@pytest.mark.parametrize("password", GUESSABLE)
def test_a_listed_or_patterned_password_is_refused_with_advice(password: str) -> None:
    with pytest.raises(ValueError, match=r"easy to guess\. Use four or more unrelated words\."):
        members.checked_password(password)


@pytest.mark.case(78)
@pytest.mark.parametrize("password", FINE)
def test_an_unrelated_password_is_accepted_whole(password: str) -> None:
    assert members.checked_password(password, "ada@example.com", "Ada's workspace") == password


@pytest.mark.case(78)
def test_the_context_of_one_user_never_counts_for_another() -> None:
    names = ["wjmqtkfhzvdrxpc", "kfzqwmtrvdxhjpb", "zvtqkwpxjdhmrfc", "dhxzmrqwvkpjtfb"]
    cases = [(name, context, name == context) for name in names for context in names] * 8
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda case: passwords.is_guessable(f"{case[0]}1", [case[1]]), cases))
    assert results == [expected for _, _, expected in cases]


@pytest.mark.case(78)
@given(st.text(max_size=128) | st.text(string.printable, max_size=128) | st.text("a@4e3 İß1!$٣\0", max_size=128))
@settings(max_examples=150, deadline=None)
def test_every_text_is_accepted_or_refused(text: str) -> None:
    assert passwords.is_guessable(text, [text]) in (True, False)


@pytest.mark.case(51, 78)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_password_costs_much_more_than_a_plain_one(name: str) -> None:
    letters = random.Random(1)
    plain = "".join(letters.choice(string.ascii_lowercase) for _ in range(128))
    assert cpu_seconds(HOSTILE[name][:128]) < 10 * cpu_seconds(plain)


def cpu_seconds(password: str) -> float:
    """Return the least CPU time of this thread for an estimate in a few tries."""
    tries = []
    for _ in range(4):
        started = time.thread_time()
        passwords.is_guessable(password, ["ada@example.com"])
        tries.append(time.thread_time() - started)
    return min(tries)


@pytest.mark.case(78)
@pytest.mark.parametrize("path", ["/account/password", "/links/pxl_reset_x", "/sign-in"])
def test_the_main_thread_of_a_worker_never_judges_a_password(path: str) -> None:
    assert not turns.is_small(f"POST {path} HTTP/1.1\r\n".encode(), body_bytes=100)
