import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import envelope, errors

text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)


def refused(raw):
    with pytest.raises(envelope.NotStrictJson) as caught:
        envelope.loads(raw)
    return str(caught.value)


@given(value=values, ascii=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_strict_json_reads_what_was_written(value, ascii, indent):
    assert envelope.loads(json.dumps(value, ensure_ascii=ascii, indent=indent).encode()) == value


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything_else_is_refused_and_nothing_else_is_raised(raw):
    try:
        value = envelope.loads(raw)
    except envelope.NotStrictJson:
        return
    assert value == json.loads(raw)


@given(values, st.sampled_from([b"x", b"}", b"]", b",", b"0", b"{}", b"\x00"]))
def test_what_follows_a_value_is_refused(value, rest):
    refused(json.dumps(value).encode() + b" " + rest)


@given(text, scalars, scalars)
def test_a_key_twice_is_refused_however_it_is_spelled(key, one, other):
    escaped = "".join(f"\\u{unit:04x}" for unit in _utf16(key))
    assert "Duplicate" in refused(
        f'[{{{json.dumps(key)}: {json.dumps(one)}, "{escaped}": {json.dumps(other)}}}]'.encode()
    )


def _utf16(text):
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


@given(st.lists(st.sampled_from("abc"), min_size=4), st.integers(0, 1000))
def test_the_first_key_that_comes_twice_is_named(names, number):
    members = [f'"{n}": 1' for n in range(number)] + [f'"{name}": 1' for name in names]
    first = next(name for place, name in enumerate(names) if name in names[:place])
    said = refused(f"{{{', '.join(members)}}}".encode()) if number < 900 else "Duplicate"
    assert said == "Duplicate" or said == f"Duplicate key {first!r}."


@pytest.mark.parametrize("filler", ["1", '"a"', '","', '"\\","', "[]", '{"a": ","}'])
def test_a_text_has_at_most_a_thousand_values_whatever_commas_its_strings_hold(filler):
    assert len(envelope.loads(f"[{','.join([filler] * 999)}, 1]".encode())) == 1000
    assert refused(f"[{','.join([filler] * 1000)}, 1]".encode()) == "Has more than 1,000 values."
    assert envelope.loads(b'"' + b"," * 5000 + b'"') == "," * 5000


@given(text, st.sampled_from(["\x00", "\ud800", "\udfff"]), text)
def test_what_no_store_takes_is_refused_wherever_it_stands(before, bad, after):
    whole = before + bad + after
    for value in (whole, {whole: 1}, [{"a": [whole]}]):
        said = refused(json.dumps(value).encode())
        assert ("NUL" if bad == "\x00" else "surrogate") in said


@given(text)
def test_a_pair_of_surrogates_is_a_character(prefix):
    assert envelope.loads(json.dumps(prefix + "\U0001f600").encode()) == prefix + "\U0001f600"
    assert envelope.loads(json.dumps("\\u0000\\ud800" + prefix).encode()) == "\\u0000\\ud800" + prefix


@given(st.integers(1, 60), st.sampled_from(["list", "object", "mixed"]))
def test_nesting_ends_at_twenty(depth, kind):
    opened, closed = "", ""
    for level in range(depth):
        brackets = ("[", "]") if kind == "list" or (kind == "mixed" and level % 2) else ('{"a":', "}")
        opened, closed = opened + brackets[0], brackets[1] + closed
    raw = (opened + "1" + closed).encode()
    if depth <= 20:
        envelope.loads(raw)
    else:
        assert "20 levels" in refused(raw)


@given(st.integers())
def test_integers_fit_in_64_bits(number):
    raw = str(number).encode()
    if -(2**63) <= number < 2**63:
        assert envelope.loads(raw) == number
    else:
        assert "64 bits" in refused(raw)


@pytest.mark.parametrize(
    "digits", [str(2**63), str(-(2**63) - 1), "1" + "0" * 19, "9" * 20, "9" * 5000, "-" + "9" * 5000]
)
def test_one_more_than_64_bits_is_refused(digits):
    assert "64 bits" in refused(digits.encode())


@given(values, values)
def test_a_success_has_data_and_meta_and_no_more(data, query):
    body = envelope.success(data, "req_x", 202, query=query)
    assert (body.status_code, body.mimetype) == (202, "application/json")
    assert json.loads(body.get_data()) == {"data": data, "meta": {"request_id": "req_x", "query": query}}


@given(st.dictionaries(text, values))
def test_a_failure_has_a_code_a_message_and_details_and_no_more(details):
    error = errors.InvalidBody()
    error.details = details
    body = envelope.failure(error, "req_x")
    assert body.status_code == 400
    assert json.loads(body.get_data()) == {
        "error": {"code": "invalid_body", "message": "The request body is not valid.", "details": details},
        "meta": {"request_id": "req_x"},
    }
