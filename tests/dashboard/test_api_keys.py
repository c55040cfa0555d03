"""Settings, API keys: what the page says is what the API does."""

import html
import re
import threading

import pytest
from flask import Flask

import config
from pixel import keys
from pixel.database import db, transaction
from tests.cast import READ, WRITE, Caller, Workspace, load
from tests.dashboard.world import Form, snapshot, world
from tests.pages import Visitor, ages, field, person

NEW = "/settings/api-keys/new"
FIELDS = {"name": "warehouse-etl", "scopes": READ, "every_website": "all", "expires": "90"}


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id)


def creates(owner, **fields):
    """The answer to the form, and the page that it leads to."""
    answer = owner.post(NEW, {**FIELDS, "form": field(owner.get(NEW).text, "form"), **fields})
    return answer, owner.get(answer.location) if answer.status_code == 303 else None


def secret_of(page):
    return re.search(r'class="secret"[^>]*><code>(pxl_dev_\w+)</code>', page.text)[1]


def newest(app, workspace_id):
    with app.app_context():
        return keys.of(workspace_id, most=1)[0]


# -- create


def test_a_key_is_made_with_what_was_ticked(app, ada, owner):
    _, page = creates(owner, scopes=[READ, WRITE], every_website="some", websites=ada.site, expires="30")
    key = newest(app, ada.id)
    assert key.scopes == [READ, WRITE]
    assert key.websites == [ada.site]
    assert round((key.expires_at - key.created_at).total_seconds() / 86400) == 30
    assert key.created_by == owner.email
    caller = Caller(app, secret_of(page))
    assert caller.get("/me").json["data"]["key"]["name"] == "warehouse-etl"


def test_nothing_is_ticked_beforehand_and_90_days_is(owner):
    text = owner.get(NEW).text
    assert not re.search(r'<input[^>]*checked[^>]*name="scopes"', text)
    assert re.search(r'<input checked[^>]*name="expires"[^>]*value="90"', text)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"name": ""}, "Enter a name."),
        ({"name": "   "}, "1 to 100"),
        ({"name": "x" * 101}, "1 to 100"),
        ({"name": "a\u202eb"}, "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ({"name": "a\0b"}, "U+0000 CONTROL"),
        ({"scopes": []}, "No scope is ticked"),
        ({"scopes": "*"}, "not a valid choice"),
        ({"scopes": "PIXEL:READ"}, "not a valid choice"),
        ({"scopes": ["pixel:read"] + [f"s{n}" for n in range(500)]}, "not valid choices"),
        ({"scopes": "brand:read"}, "not a valid choice"),
        ({"scopes": ""}, "not a valid choice"),
        ({"scopes": "null"}, "not a valid choice"),
        ({"scopes": "pixel:read pixel:write"}, "not a valid choice"),
        ({"scopes": '["pixel:read"]'}, "not a valid choice"),
        ({"scopes": '{"pixel:read": true}'}, "not a valid choice"),
        ({"scopes": [READ, "*"]}, "not a valid choice"),
        ({"every_website": "some"}, "Tick at least one website"),
        ({"every_website": "none"}, "Not a valid choice"),
        ({"websites": "admx_00000000000000", "every_website": "some"}, "not a valid choice"),
        ({"expires": "36500"}, "Not a valid choice"),
        ({"expires": "date"}, "Enter the last day"),
        ({"expires": "date", "expires_on": ""}, "Enter the last day"),
        ({"expires": "date", "expires_on": "0001-01-01"}, "a day that is not over"),
        ({"expires": "date", "expires_on": "2020-01-01"}, "a day that is not over"),
        ({"expires": "date", "expires_on": "tomorrow"}, "Not a valid date"),
        ({"expires": "date", "expires_on": "9999-12-31"}, "before the year 2200"),
        ({"form": ""}, "not made by this page"),
        ({"form": "x" * 41}, "not made by this page"),
    ],
)
@pytest.mark.case(29, 30)
def test_what_will_not_do_is_said_and_what_was_typed_is_kept(app, ada, owner, fields, refusal):
    before = snapshot(app)["api_keys"]
    answer, _ = creates(owner, **fields)
    assert answer.status_code == 400
    assert refusal.lower() in answer.text.lower()
    assert "There is a problem" in answer.text
    if "name" not in fields:
        assert field(answer.text, "name") == "warehouse-etl"
    assert snapshot(app)["api_keys"] == before


@pytest.mark.case(30)
def test_a_scope_ticked_twice_is_granted_once(app: Flask, ada: Workspace, owner: Visitor) -> None:
    assert creates(owner, scopes=[READ, READ])[0].status_code == 303
    assert newest(app, ada.id).scopes == [READ]


@pytest.mark.case(30)
@pytest.mark.parametrize("page", ["new", "rotate"])
@pytest.mark.parametrize(
    ("scopes", "refusal"),
    [
        ("PIXEL:READ", "'PIXEL:READ' is not a valid choice. Did you mean pixel:read?"),
        ("pixel.write", "'pixel.write' is not a valid choice. Did you mean pixel:write?"),
        (["Pixel:Read", "pixl:write"],
         "'Pixel:Read', 'pixl:write' are not valid choices. Did you mean pixel:read or pixel:write?"),
        (["pixel:raed", "PIXEL:READ"],
         "'pixel:raed', 'PIXEL:READ' are not valid choices. Did you mean pixel:read?"),
        (["*", "*", "*"], "'*' is not a valid choice."),
        ([READ, "brand:read"], "'brand:read' is not a valid choice."),
        ("a\u202eb\n", r"'a\u202eb\n' is not a valid choice."),
        ("x" * 40_000, f"'{'x' * 40}' is not a valid choice."),
        ([f"scope:{number}" for number in range(1_900)],
         "'scope:0', 'scope:1', 'scope:2' and 1,897 more are not valid choices."),
        (["PIXEL:READ"] * 1_900, "'PIXEL:READ' is not a valid choice. Did you mean pixel:read?"),
        ([READ, *(f"{number}" for number in range(1_900))],
         "'0', '1', '2' and 1,897 more are not valid choices."),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_unknown_scopes_are_refused_in_a_few_words(
    ada: Workspace, owner: Visitor, page: str, scopes: str | list, refusal: str
) -> None:
    form = owner.get(NEW) if page == "new" else owner.get(f"{NEW.removesuffix('new')}{ada.key(READ).key_id}/rotate")
    fields = FIELDS if page == "new" else {"overlap": "1h", "expires": "same"}
    refused = owner.post(form.request.path, {**fields, "form": field(form.text, "form"), "scopes": scopes})
    assert refused.status_code == 400
    [message] = re.findall(r'id="scopes-wrong">(.*?)</p>', refused.text)
    assert html.unescape(message) == refusal
    assert len(refused.text) < len(form.text) + 5_000
    # What is a choice stays ticked, and no confirmation is asked for a key without scopes.
    assert bool(re.search(r'<input[^>]* checked [^>]*name="scopes"', refused.text)) == (READ in scopes)
    assert "no_scope" not in refused.text


@pytest.mark.case(30)
def test_ten_thousand_scopes_are_refused_in_a_few_words(owner: Visitor) -> None:
    refused, _ = creates(owner, scopes=[f"scope:{number}" for number in range(10_000)])
    assert refused.status_code == 400
    assert "scope:" not in refused.text
    assert len(refused.text) < 10_000


def test_a_last_day_is_asked_for_beside_its_field_and_only_where_it_counts(app, ada, owner):
    old = ada.key(READ)
    for page in (creates(owner, expires="date", expires_on="")[0],
                 rotates(owner, old.key_id, expires="date", expires_on="")[0]):  # fmt: skip
        assert page.status_code == 400
        assert 'id="expires_on-wrong">Enter the last day' in page.text
        assert 'id="expires-wrong"' not in page.text
    assert creates(owner, expires="30", expires_on="")[0].status_code == 303
    assert creates(owner, expires="never", expires_on="never")[0].status_code == 303


def test_what_is_wrong_is_listed_as_the_fields_stand(owner):
    page = creates(owner, name="", scopes=[], expires="date", expires_on="")[0].text
    listed = re.findall(r'<li><a href="#([a-z_]+)', page)
    assert listed == ["name", "scopes", "expires_on"]


def test_a_date_is_the_workspaces_day(app, moved_clock):
    from tests.cast import Workspace

    kiribati = Workspace(app, timezone="Pacific/Kiritimati")
    owner = person(app, kiribati.id)
    creates(owner, expires="date", expires_on="2031-05-06")
    assert newest(app, kiribati.id).expires_at.isoformat() == "2031-05-06T10:00:00+00:00"


@pytest.mark.case(85)
def test_a_form_sent_twice_makes_one_key_also_at_once(app, ada, owner):
    page = owner.get(NEW).text
    values = {**FIELDS, "form": field(page, "form"), "csrf_token": field(page, "csrf_token")}
    token = owner.browser.get_cookie("pixel_session").value
    form = owner.browser.get_cookie("pixel_form").value
    answers = []

    def send():
        twin = Visitor(app)
        twin.browser.set_cookie("pixel_session", token)
        twin.browser.set_cookie("pixel_form", form)
        answers.append(twin.send(NEW, values))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.location for answer in answers}) == 1
    with app.app_context():
        assert keys.count(ada.id) == 1


# -- shown once


@pytest.mark.case(93)
def test_a_key_is_shown_once_and_kept_nowhere(app, ada, owner):
    answer, page = creates(owner)
    secret = secret_of(page)
    assert secret not in str(answer.headers)
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    again = owner.get(answer.location)
    assert "This key was already shown" in again.text
    assert secret not in again.text
    assert secret not in "".join(map(str, snapshot(app).values()))


def test_only_its_maker_sees_it(app, ada, owner):
    mate = person(app, ada.id, "owner")
    answer = owner.post(NEW, {**FIELDS, "form": field(owner.get(NEW).text, "form")})
    assert "already shown" in mate.get(answer.location).text
    other = Visitor(app)
    other.signs_in(owner.email)
    assert "already shown" in other.get(answer.location).text
    assert secret_of(owner.get(answer.location))


def test_it_waits_ten_minutes_and_no_longer(app, ada, owner, moved_clock):
    first, _ = owner.post(NEW, {**FIELDS, "form": field(owner.get(NEW).text, "form")}), None
    moved_clock.forward(minutes=11)
    assert "already shown" in owner.get(first.location).text
    with app.app_context():
        keys.sweep()
        assert db.session.scalar(db.select(keys.ApiKey.sealed).filter_by(workspace_id=ada.id)) is None


def test_the_key_page_tells_when_the_first_request_came(app, owner):
    answer, page = creates(owner)
    part = answer.location.replace("/secret", "/first-request")
    assert "Waiting for the first request" in owner.get(part).text
    Caller(app, secret_of(page)).get("/me")
    assert "The first request was received" in owner.get(part).text
    assert "<html" not in owner.get(part).text


@pytest.mark.case(84)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"Purpose": "Prefetch"},
        {"X-Purpose": "preview"},
        {"X-Moz": "prefetch"},
    ],
    ids=str,
)
def test_a_prefetch_does_not_use_the_page_up(owner, headers):
    answer = owner.post(NEW, {**FIELDS, "form": field(owner.get(NEW).text, "form")})
    early = owner.get(answer.location, headers=headers)
    assert (early.status_code, early.data) == (204, b"")
    assert early.headers["Cache-Control"] == "no-store"
    assert secret_of(owner.get(answer.location))


@pytest.mark.case(64, 84)
def test_a_head_request_has_the_headers_of_the_page_and_does_not_use_it_up(owner):
    answer = owner.post(NEW, {**FIELDS, "form": field(owner.get(NEW).text, "form")})
    head = owner.browser.head(answer.location, environ_base={"REMOTE_ADDR": owner.address})
    page = owner.get(answer.location)
    assert (head.status_code, head.data) == (200, b"")
    assert {k: v for k, v in head.headers if k != "X-Request-Id"} == {
        k: v for k, v in page.headers if k not in ("X-Request-Id", "Set-Cookie")
    }
    assert secret_of(page)


@pytest.mark.case(84)
def test_a_message_waits_for_a_page_that_somebody_sees(owner):
    answer, _ = creates(owner)
    address = answer.location.rpartition("/")[0]
    owner.post(f"{address}/revoke")
    owner.browser.head("/settings/api-keys", environ_base={"REMOTE_ADDR": owner.address})
    assert "is revoked" not in owner.get("/settings/api-keys", headers={"Sec-Purpose": "prefetch"}).text
    assert "is revoked. Calls" in owner.get("/settings/api-keys").text
    assert "is revoked. Calls" not in owner.get("/settings/api-keys").text


# -- no more than so many


@pytest.fixture
def two(app, monkeypatch):
    """A server where a workspace may have two active keys."""
    monkeypatch.setitem(app.config, "MAX_ACTIVE_KEYS", 2)


def states(app, workspace_id):
    with app.app_context():
        return {state: keys.count(workspace_id, state) for state in keys.STATES if keys.count(workspace_id, state)}


def test_a_key_too_many_is_refused_and_what_was_typed_is_kept(app, ada, owner, two):
    for _ in range(2):
        assert creates(owner)[0].status_code == 303
    answer, _ = creates(owner, name="one too many")
    assert answer.status_code == 409
    assert "This workspace has 2 active API keys, which is the limit" in answer.text
    assert field(answer.text, "name") == "one too many"
    assert re.search(r'<input[^>]*checked[^>]*name="scopes"[^>]*value="pixel:read"', answer.text)
    assert states(app, ada.id) == {"active": 2}
    said = app.test_cli_runner().invoke(args=["key", "create", "k", "--workspace", ada.id])
    assert said.exit_code == 1
    assert said.stderr.strip().splitlines() == [
        "Error: This workspace has 2 active API keys, which is the limit; revoke one that nothing uses."
    ]


def test_a_key_that_is_over_makes_room_for_another(app, ada, owner, two, moved_clock):
    first = ada.key(READ)
    creates(owner, expires="30")
    assert creates(owner)[0].status_code == 409
    ada.revoke(first)
    assert creates(owner, expires="never")[0].status_code == 303
    moved_clock.forward(days=31)
    assert Visitor(app).get("/sign-in").status_code == 200
    with app.app_context():
        assert keys.create(ada.id, "instead of the expired one", [READ], "dev")


def test_a_form_sent_again_at_the_limit_leads_to_the_key_it_made(owner, two):
    form = {**FIELDS, "form": field(owner.get(NEW).text, "form")}
    creates(owner)
    first, second = owner.post(NEW, form), owner.post(NEW, form)
    assert (second.status_code, second.location) == (303, first.location)


def test_at_the_limit_keys_are_rotated_and_successors_discarded(app, ada, owner, two):
    old, other = ada.key(READ), ada.key(READ)
    assert rotates(owner, old.key_id)[0].status_code == 303
    assert rotates(owner, old.key_id)[0].status_code == 303
    new = newest(app, ada.id)
    assert states(app, ada.id) == {"active": 2, "rotating": 1, "revoked": 1}
    assert creates(owner)[0].status_code == 409
    owner.post(f"/settings/api-keys/{new.id}/discard")
    assert states(app, ada.id) == {"active": 2, "revoked": 2}
    assert rotates(owner, other.key_id, overlap="none")[0].status_code == 303


def test_a_rotation_that_adds_an_active_key_is_refused_at_the_limit(app, ada, owner, two):
    old = ada.key(READ)
    rotates(owner, old.key_id)
    with app.app_context():
        keys.revoke(newest(app, ada.id).id)
    ada.key(READ), ada.key(READ)
    answer, _ = rotates(owner, old.key_id)
    assert answer.status_code == 409
    assert "which is the limit" in answer.text
    assert states(app, ada.id) == {"active": 2, "rotating": 1, "revoked": 1}


def test_a_limit_lowered_below_what_there_is_lets_keys_be_rotated(app, ada, owner, monkeypatch):
    old, *_ = (ada.key(READ) for _ in range(3))
    monkeypatch.setitem(app.config, "MAX_ACTIVE_KEYS", 1)
    assert rotates(owner, old.key_id)[0].status_code == 303
    assert creates(owner)[0].status_code == 409
    assert states(app, ada.id) == {"active": 3, "rotating": 1}


def test_no_more_keys_are_made_at_once_than_there_is_room_for(app, ada, owner, two):
    pages = [owner.get(NEW).text for _ in range(6)]
    cookies = {name: owner.browser.get_cookie(name).value for name in ("pixel_session", "pixel_form")}
    statuses = []

    def send(page):
        twin = Visitor(app)
        for name, value in cookies.items():
            twin.browser.set_cookie(name, value)
        values = {**FIELDS, "form": field(page, "form"), "csrf_token": field(page, "csrf_token")}
        statuses.append(twin.send(NEW, values).status_code)

    threads = [threading.Thread(target=send, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [303] * 2 + [409] * 4
    assert states(app, ada.id) == {"active": 2}


@pytest.mark.parametrize("number", ["0", "-1", "100001", "many"])
def test_a_limit_out_of_range_stops_the_start_with_a_sentence(number):
    with pytest.raises(config.WrongSetting, match="MAX_ACTIVE_KEYS must be"):
        config.load(MAX_ACTIVE_KEYS=number)


# -- rotate, end, discard, revoke


def rotates(owner, key_id, **fields):
    path = f"/settings/api-keys/{key_id}/rotate"
    fields = {
        "scopes": READ,
        "overlap": "24h",
        "expires": "same",
        "form": field(owner.get(path).text, "form"),
        **fields,
    }
    answer = owner.post(path, fields)
    return answer, owner.get(answer.location) if answer.status_code == 303 else None


def test_a_rotation_adds_and_drops_scopes(app, ada, owner):
    old = ada.key(READ)
    assert re.search(r'checked[^>]*value="pixel:read"', owner.get(f"/settings/api-keys/{old.key_id}/rotate").text)
    _, page = rotates(owner, old.key_id, scopes=WRITE, overlap="1h")
    new = newest(app, ada.id)
    assert new.scopes == [WRITE]
    caller = Caller(app, secret_of(page))
    assert caller.get("/pixel/websites").status_code == 403
    assert old.get("/pixel/websites").status_code == 200


def test_the_overlap_runs_from_the_first_use_of_the_new_key(app, ada, owner, moved_clock):
    old = ada.key(READ)
    _, page = rotates(owner, old.key_id, overlap="1h")
    new = Caller(app, secret_of(page))
    moved_clock.forward(days=2)
    assert old.get("/me").status_code == 200
    assert new.get("/me").status_code == 200
    text = owner.get("/settings/api-keys").text
    assert "Rotating: works until" in text
    assert "End overlap now" in text
    moved_clock.forward(hours=1, seconds=1)
    assert old.get("/me").json["error"]["code"] == "api_key_revoked"
    assert new.get("/me").status_code == 200


@pytest.mark.case(18)
def test_a_new_key_never_used_is_discarded_and_the_old_one_works_on(app, ada, owner):
    old = ada.key(READ)
    _, page = rotates(owner, old.key_id)
    new = newest(app, ada.id)
    owner.post(f"/settings/api-keys/{new.id}/discard")
    assert Caller(app, secret_of(page)).get("/me").status_code == 401
    assert old.get("/me").status_code == 200
    assert "Rotating" not in owner.get("/settings/api-keys").text.replace("Rotating 0", "")


def test_a_key_that_is_over_is_not_rotated(app, ada, owner):
    gone = ada.key(READ)
    form = field(owner.get(f"/settings/api-keys/{gone.key_id}/rotate").text, "form")
    ada.revoke(gone)
    answer = owner.post(
        f"/settings/api-keys/{gone.key_id}/rotate",
        {"scopes": READ, "overlap": "1h", "expires": "same", "form": form},
        page="/settings/api-keys",
    )
    assert answer.status_code == 400
    assert "This key is revoked" in answer.text


def test_of_a_key_that_is_over_nothing_is_asked(app, ada, owner):
    gone = ada.key(READ)
    ada.revoke(gone)
    page = f"/settings/api-keys/{gone.key_id}"
    for asks in ("rotate", "revoke", "end-overlap", "discard"):
        answer = owner.get(f"{page}/{asks}")
        assert (answer.status_code, answer.location) == (303, page)


def test_what_ends_a_key_says_which_and_asks_first(app):
    here = world(app)
    listed = here.owner.get("/settings/api-keys").text
    for key_id, asks in ((here.old, "end-overlap"), (here.new, "discard")):
        with app.app_context():
            hint = keys.get(here.workspace.id, key_id).hint
        assert re.search(rf'<a class="button small danger" href="[^"]*{key_id}/{asks}" aria-label="[^"]*{hint}', listed)
        page = here.owner.get(f"/settings/api-keys/{key_id}/{asks}").text
        assert re.search(rf'class="button danger primary">(End|Discard) {hint}', page)


def test_a_key_that_is_over_expires_no_more(app, ada, owner):
    creates(owner)
    key = newest(app, ada.id)
    assert re.search(r"<dt>Expires</dt><dd><time[^>]*>in 90 days<", owner.get(f"/settings/api-keys/{key.id}").text)
    owner.post(f"/settings/api-keys/{key.id}/revoke")
    assert "<dt>Expires</dt><dd>–</dd>" in owner.get(f"/settings/api-keys/{key.id}").text
    assert '<td data-label="Expires">–</td>' in owner.get("/settings/api-keys").text


def test_revoking_says_when_and_from_where_it_was_last_used(app, ada, owner):
    caller = ada.key(READ)
    caller.get("/me", environ_base={"REMOTE_ADDR": "198.51.100.77"}, headers={"User-Agent": "etl/2"})
    load(app)
    with app.app_context():
        from pixel import jobs

        jobs.note_key_use()
    text = owner.get(f"/settings/api-keys/{caller.key_id}/revoke").text
    assert "198.51.100.0" in text
    assert "etl/2" in text
    assert "198.51.100.77" not in text
    answer = owner.post(f"/settings/api-keys/{caller.key_id}/revoke")
    assert answer.location == "/settings/api-keys"
    assert caller.get("/me").json["error"]["code"] == "api_key_revoked"


# -- whose, which, what for


def test_a_found_key_is_recognised_and_not_kept(app, ada, bob, owner):
    ours, theirs = ada.key(READ), bob.key(READ)
    answer = owner.post("/settings/api-keys", found=f"export KEY='{ours.secret}'")
    assert answer.location == f"/settings/api-keys/{ours.key_id}"
    for found in (theirs.secret, "pxl_dev_" + "0" * 50, "hello", ours.secret[:-1], "\0", "é" * 3000):
        answer = owner.post("/settings/api-keys", found=found)
        assert answer.status_code == 400
        assert "no key of this workspace" in answer.text
        assert found not in answer.text or found == "\0"


def test_states_can_be_filtered(app):
    here = world(app, "mark")
    with app.app_context():
        keys.revoke(here.key)
        expired = here.workspace.key(READ).key_id
        with transaction() as session:
            session.get(keys.ApiKey, expired).expires_at = keys.clock.now()
    for state, key in (("revoked", here.key), ("rotating", here.old), ("expired", expired), ("active", here.new)):
        text = here.owner.get(f"/settings/api-keys?state={state}").text
        table = text[text.index("<tbody") : text.index("</tbody")]
        assert key in table
        assert not {here.key, here.old, expired, here.new} - {key} & set(re.findall(r"key_\w{12}", table)) - {key}


def test_what_deserves_care_is_listed(app, ada, owner, moved_clock):
    forever, idle, unused = ada.key(READ), ada.key(READ), ada.key(READ)
    with app.app_context(), transaction() as session:
        now = keys.clock.now()
        session.get(keys.ApiKey, idle.key_id).last_used_at = now - keys.IDLE - keys.LEFT
        session.get(keys.ApiKey, unused.key_id).created_at = now - keys.UNUSED - keys.LEFT
    with app.app_context():
        care = keys.care(ada.id)
    assert {key.id for key in care["forever"]} == {forever.key_id, idle.key_id, unused.key_id}
    assert [key.id for key in care["idle"]] == [idle.key_id]
    assert unused.key_id in [key.id for key in care["removable"]]
    assert "Worth a look" in owner.get("/settings/api-keys").text


def test_one_keys_page_tells_of_its_calls(app, ada, owner, monkeypatch):
    caller = ada.key(READ, WRITE)
    for _ in range(3):
        caller.get("/pixel/websites")
    caller.get("/pixel/metrics/nope")
    load(app)
    monkeypatch.setattr(keys, "UNUSED", keys.LEFT * 0)
    text = owner.get(f"/settings/api-keys/{caller.key_id}").text
    assert "4 calls, 1 of them refused or failed." in text
    assert text.count("/requests/req_") >= 4
    assert "invalid_pipe" in text
    assert "Add the scope" not in text
    unused = re.search(r"this key did not use (.*?)\. A key", text, re.DOTALL)[1]
    assert "pixel:write" in unused
    assert "pixel:read" not in unused


def test_a_missing_scope_is_added_by_one_click(app, ada, owner):
    caller = ada.key(READ)
    caller.sends(ada.site)
    load(app)
    page = owner.get(f"/settings/api-keys/{caller.key_id}").text
    leads = re.search(r'href="([^"]*)">Add the scope and rotate', page)[1]
    assert leads == f"/settings/api-keys/{caller.key_id}/rotate?add=pixel:write"
    assert re.search(r'checked[^>]*value="pixel:write"', owner.get(leads).text)


def test_without_the_warehouse_the_page_says_so(app, ada, owner, monkeypatch):
    from pixel import errors
    from pixel.extensions import warehouse

    def away(*_):
        raise errors.AnalyticsError()

    caller = ada.key(READ)
    monkeypatch.setattr(warehouse, "query", away)
    for path in (
        "/settings/api-keys",
        f"/settings/api-keys/{caller.key_id}",
        "/requests",
        "/websites",
        f"/websites/{ada.site}",
    ):
        answer = owner.get(path)
        assert answer.status_code == 200, path
        assert "does not answer just now" in answer.text, path


def test_an_old_password_and_a_wrong_form_together_lose_nothing(app, owner):
    ages(app, owner, minutes=20)
    answer, _ = creates(owner, name="kept as typed", password="not the password here")
    assert answer.status_code == 400
    assert field(answer.text, "name") == "kept as typed"
    assert "not the password here" not in answer.text


def test_an_admin_without_the_mouse_of_an_owner_may_make_keys(app, ada):
    admin = person(app, ada.id, "admin")
    answer, page = creates(admin)
    assert answer.status_code == 303
    assert secret_of(page)


def test_the_history_of_a_key_names_who_did_it(app):
    here = world(app)
    Form(here, "settings.revoke_key").sent(here.owner)
    text = here.owner.get(f"/settings/api-keys/{here.key}").text
    assert "revoked a key" in text
    assert here.owner.email in text


def test_the_history_of_a_successor_begins_with_the_rotation(app):
    here = world(app)
    history = here.owner.get(f"/settings/api-keys/{here.new}").text.partition(">History<")[2]
    assert history.count("rotated a key") == 1
    assert "created a key" not in history
