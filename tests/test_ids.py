from hypothesis import given
from hypothesis import strategies as st

from pixel import clock, ids

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def test_ids_sort_by_their_time_and_never_repeat():
    made = [ids.in_time("req_") for _ in range(5000)]
    assert len(set(made)) == len(made)
    assert [ids.milliseconds(id) for id in made] == sorted(ids.milliseconds(id) for id in made)
    assert [id[:14] for id in made] == sorted(id[:14] for id in made)
    assert abs(ids.milliseconds(made[0]) - clock.milliseconds()) < 60_000


def test_an_id_is_a_uuid_of_version_7():
    for _ in range(500):
        id = ids.in_time("req_")
        assert len(id) == 30
        number = sum(DIGITS.index(c) << 5 * i for i, c in enumerate(reversed(id[4:])))
        assert number < 1 << 128
        assert (number >> 76) & 15 == 7
        assert (number >> 62) & 3 == 2
        assert number >> 80 == ids.milliseconds(id)


@given(before=st.text(max_size=40), after=st.text(max_size=40))
def test_a_request_id_is_found_within_anything(before, after):
    id = ids.in_time("req_")
    assert ids.find_request_id(f"{before}\n{id}\n{after}") == id
    assert ids.find_request_id(f'{{"request_id": "{id}"}}') == id


@given(st.text())
def test_what_is_found_is_well_formed(text):
    found = ids.find_request_id(text)
    assert found is None or (len(found) == 30 and found in text)


def test_capitals_and_a_character_less_are_no_id():
    id = ids.in_time("req_")
    assert ids.find_request_id(id[:-1]) is None
    assert ids.find_request_id("REQ_" + id[4:].upper()) is None


@given(st.integers(0, 2**32 - 1))
def test_base62_is_of_one_length_and_can_be_undone(number):
    text = ids.base62(number, 6)
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert len(text) == 6
    assert sum(alphabet.index(c) * 62**i for i, c in enumerate(reversed(text))) == number


def test_random_text_uses_the_whole_alphabet():
    text = ids.random(5000)
    assert len(text) == 5000
    assert len(set(text)) == 62
