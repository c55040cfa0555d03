"""What people come for, told in a real browser, with scripts and without."""

import re

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import PASSWORD, Person, Site, is_true


def creates_key(owner, name, *scopes):
    """The key that the page shows once."""
    owner.opens("/settings/api-keys")
    owner.follows("Create key") if owner.page.get_by_role("link", name="Create key").count() else owner.follows(
        "Create the first key"
    )
    owner.page.get_by_label("Name").fill(name)
    for scope in scopes:
        owner.ticks(scope)
    owner.presses("Create key")
    return owner.secret()


def opens_key(owner, name):
    owner.opens("/settings/api-keys")
    owner.follows(name)


def test_a_key_with_one_scope_is_rotated_as_the_page_advises(owner, site):
    name = f"warehouse-etl-{owner.scripts}"
    old = creates_key(owner, name, "pixel:read")
    assert site.call(old, "/me").status_code == 200
    assert site.call(old, "/pixel/websites").status_code == 200
    refused = site.call(old, "/pixel/events", json=site.event())
    assert refused.status_code == 403
    assert refused.json()["error"]["details"]["required"] == "pixel:write"

    opens_key(owner, name)
    advice = owner.page.get_by_role("link", name="Add the scope and rotate")
    is_true(lambda: owner.page.reload() and advice.count())
    advice.first.click()
    assert owner.page.get_by_label("pixel:write", exact=True).is_checked()
    owner.ticks("24 hours")
    owner.presses(f"Rotate {name}")
    new = owner.secret()
    assert site.call(new, "/pixel/events", json=site.event()).status_code == 202
    assert site.call(old, "/me").status_code == 200

    opens_key(owner, name)
    owner.page.get_by_role("link", name=re.compile("^pxl_dev_")).first.click()
    owner.sees("Rotating: works until")
    owner.page.get_by_role("link", name=f"End overlap of {name}").click()
    owner.page.get_by_role("button", name=re.compile("^End pxl_dev_")).click()
    owner.sees("The overlap has ended")
    ended = site.call(old, "/me")
    assert (ended.status_code, ended.json()["error"]["code"]) == (401, "api_key_revoked")
    assert site.call(new, "/me").status_code == 200


@pytest.mark.case(71, 85)
def test_a_password_that_is_typed_again_signs_nobody_out_here_or_in_another_tab(site: Site, chromium: Browser) -> None:
    owner = Person(site, chromium).signs_in()
    other_tab = owner.context.new_page()
    other_tab.goto("/websites/new")
    site.execute("UPDATE sessions SET confirmed_at = '2020-01-01 00:00:00.000000'")
    owner.opens("/settings/api-keys/new")
    owner.page.get_by_label("Name").fill("confirmed")
    owner.ticks("pixel:read")
    owner.page.get_by_label("Your password").fill(PASSWORD)
    owner.presses("Create key")
    assert site.call(owner.secret(), "/me").status_code == 200
    # The other tab has the new cookie too, and its form still works.
    other_tab.get_by_label("Domain").fill("second-tab.example")
    other_tab.get_by_role("button", name="Add website").click()
    other_tab.get_by_text("second-tab.example").first.wait_for()
    owner.leaves()


@pytest.mark.case(71, 85)
def test_a_double_click_sends_a_form_once(site: Site, chromium: Browser) -> None:
    owner = Person(site, chromium).signs_in()
    owner.opens("/settings/api-keys/new")
    owner.page.evaluate("""() => {
        window.sent = 0;
        addEventListener("submit", (event) => {
            if (!event.defaultPrevented) window.sent += 1;
            event.preventDefault();
        });
    }""")
    owner.page.get_by_role("button", name="Create key").dblclick()
    assert owner.page.evaluate("sent") == 1
    owner.leaves()


def test_a_long_list_is_narrowed_while_typing(owner, site):
    site.server.set_up_by(
        *(
            [
                "key",
                "create",
                f"listed {number} {owner.scripts}",
                "--workspace",
                site.workspace,
                "--scope",
                "pixel:read",
            ]
            for number in range(11)
        )
    )
    owner.opens("/settings/api-keys")
    box, rows = owner.page.get_by_label("Only keys with"), owner.page.locator("#keys tbody tr:visible")
    assert rows.count() > 10
    assert box.is_visible() == owner.scripts
    if owner.scripts:
        box.fill(f"Listed 7 {owner.scripts}")
        assert rows.count() == 1
        assert "listed 7" in rows.inner_text()


def test_a_key_is_shown_once(owner):
    secret = creates_key(owner, f"once-{owner.scripts}", "pixel:read")
    assert secret in owner.text
    address = owner.page.url
    owner.page.reload()
    assert secret not in owner.page.content()
    owner.sees("This key was already shown")
    owner.follows("To the key's page")
    owner.page.go_back()
    assert secret not in owner.page.content()
    owner.opens(address)
    assert secret not in owner.page.content()


def test_the_page_of_a_new_key_tells_when_it_is_used(owner, site):
    secret = creates_key(owner, f"waits-{owner.scripts}", "pixel:read")
    owner.sees("Waiting for the first request")
    assert site.call(secret, "/me").status_code == 200
    if not owner.scripts:
        owner.follows("To the key's page")
        assert "First used\nNever" not in owner.text
    else:
        owner.sees("The first request was received")


def test_a_key_without_a_scope_is_asked_about_twice(owner, site):
    owner.opens("/settings/api-keys/new")
    owner.page.get_by_label("Name").fill(f"nothing-{owner.scripts}")
    owner.presses("Create key")
    owner.sees("There is a problem")
    assert owner.page.get_by_label("Name").input_value() == f"nothing-{owner.scripts}"
    owner.ticks("Yes, make a key without any scope")
    owner.presses("Create key")
    key = owner.secret()
    assert site.call(key, "/me").status_code == 200
    assert site.call(key, "/pixel/websites").status_code == 403


def test_a_revoked_key_is_refused_on_the_next_call(owner, site):
    name = f"leaked-{owner.scripts}"
    key = creates_key(owner, name, "pixel:read")
    assert site.call(key, "/me").status_code == 200
    owner.opens("/settings/api-keys")
    owner.page.get_by_label("A key that was found").fill(f'  api_key = "{key}"  ')
    owner.presses("Tell which one it is")
    owner.sees(f"The key you pasted is this one: {name}.")
    owner.follows("Revoke")
    owner.presses(f"Revoke {name}")
    owner.sees("is revoked")
    refused = site.call(key, "/me")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "api_key_revoked")
    owner.opens("/settings/api-keys?state=revoked")
    owner.sees(name)


def test_an_expired_key_says_when_it_ended(owner, site):
    name = f"short-{owner.scripts}"
    key = creates_key(owner, name, "pixel:read")
    assert site.call(key, "/me").status_code == 200
    site.execute("UPDATE api_keys SET expires_at = '2026-01-01 00:00:00.000000' WHERE name = ?", name)
    refused = site.call(key, "/me")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "api_key_expired")
    assert refused.json()["error"]["details"]["expired_at"].startswith("2026-01-01")
    opens_key(owner, name)
    owner.sees("Expired")


def test_support_finds_a_failed_request_by_the_error_that_was_pasted(chromium, owner, site):
    key = creates_key(owner, f"broken-{owner.scripts}", "pixel:read")
    site.execute("UPDATE api_keys SET scopes = '{' WHERE name = ?", f"broken-{owner.scripts}")
    failed = site.call(key, "/me")
    site.execute("UPDATE api_keys SET scopes = '[]' WHERE name = ?", f"broken-{owner.scripts}")
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert "Error" not in failed.json()["error"]["message"]

    email = f"agent-{owner.scripts}@example.com".lower()
    _, link = site.workspace_of("Support", email)
    site.server.flask("user", "support", email)
    agent = Person(site, chromium, scripts=owner.scripts)
    agent.opens(link)
    agent.page.get_by_label("New password").fill("another four plain words")
    agent.presses("Set the password and sign in")
    agent.follows("Support")
    agent.page.get_by_role("textbox").first.fill(f"our job failed:\n{failed.text}\nplease help")
    agent.page.get_by_label(re.compile("Reason")).fill("ticket 4711")
    agent.page.get_by_role("main").get_by_role("button").first.click()
    agent.sees("internal_error")
    assert failed.json()["meta"]["request_id"] in agent.text
    assert "JSONDecodeError" in agent.text
    assert "authentication" in agent.text or "answer" in agent.text
    agent.leaves()
    assert owner.opens("/support") == 404


def test_an_admin_of_another_workspace_finds_nothing(chromium, owner, site):
    key = creates_key(owner, f"mine-{owner.scripts}", "pixel:read")
    request_id = site.call(key, "/me").json()["meta"]["request_id"]
    opens_key(owner, f"mine-{owner.scripts}")
    own = [owner.page.url.removeprefix(site.url), f"/requests/{request_id}", f"/websites/{site.website}"]
    own += [f"{own[0]}/{page}" for page in ("secret", "rotate", "revoke", "first-request")]
    is_true(lambda: owner.opens(f"/requests/{request_id}") == 200)

    email = f"stranger-{owner.scripts}@example.com".lower()
    _, link = site.workspace_of("Elsewhere", email)
    stranger = Person(site, chromium, scripts=owner.scripts)
    stranger.opens(link)
    stranger.page.get_by_label("New password").fill("another four plain words")
    stranger.presses("Set the password and sign in")
    for path in own:
        assert owner.opens(path) == 200, path
        assert stranger.opens(path) == 404, path
        assert f"mine-{owner.scripts}" not in stranger.text
    for path in ("/settings/api-keys", "/requests", "/websites", "/settings/audit", "/settings/members"):
        assert stranger.opens(path) == 200
        assert "Harbour" not in stranger.text
        assert f"mine-{owner.scripts}" not in stranger.text
        assert "owner@example.com" not in stranger.text
    stranger.leaves()
