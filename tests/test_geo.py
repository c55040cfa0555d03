"""Countries by a real MMDB file, made here: several makers' records, IPv4 and IPv6, and a file that is replaced."""

import os
import random
from datetime import timedelta

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

import config
from pixel import clock, doctor, geo
from tests.cast import WRITE, stored
from tests.collect.pages import Browser

PLACES = {
    "192.0.2.0/25": {"country": {"iso_code": "CH", "geoname_id": 1}, "registered_country": {"iso_code": "US"}},
    "198.51.100.0/24": {"registered_country": {"iso_code": "DE"}},
    "203.0.113.0/24": {"country": "FR"},
    "100.64.0.0/16": {"country": "Austria", "country_code": "AT"},
    "2001:db8:1::/48": {"country": {"iso_code": "NO"}},
    "2001:db8:2::/48": {"country": {"names": {"en": "Nowhere"}}},
    "2001:db8:3::/48": {"country": "Nowhere"},
}


def mmdb(path, places=PLACES, built=None):
    """Make an MMDB file, built at a moment, and put it into its place by renaming."""
    writer = MMDBWriter(6, ipv4_compatible=True, database_type="Test-Country", description="made by a test")
    for network, record in places.items():
        writer.insert_network(IPSet([network]), record)
    told = writer._build_meta()
    writer._build_meta = lambda: told | ({"build_epoch": int(built.timestamp())} if built else {})
    writer.to_db_file(str(made := path.with_suffix(".new")))
    os.replace(made, path)
    return str(path)


@pytest.fixture
def atlas(tmp_path):
    path = tmp_path / "countries.mmdb"
    geo.bind(mmdb(path))
    yield path
    geo.bind("")


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("192.0.2.1", "CH"),
        ("192.0.2.127", "CH"),
        ("192.0.2.128", ""),
        ("198.51.100.7", "DE"),
        ("203.0.113.7", "FR"),
        ("100.64.3.4", "AT"),
        ("2001:db8:1::1", "NO"),
        ("2001:DB8:1:0:0:0:0:1", "NO"),
        ("::ffff:192.0.2.1", "CH"),
        ("2001:db8:2::1", ""),
        ("2001:db8:3::1", ""),
        ("2001:db8:9::1", ""),
        ("10.0.0.1", ""),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("fe80::1%eth0", ""),
        ("", ""),
        ("x", ""),
        ("192.0.2.1, 192.0.2.2", ""),
        ("192.0.2.256", ""),
    ],
)
def test_an_address_has_the_country_of_its_network(atlas, address, country):
    assert geo.country(address) == country


def test_hits_and_events_have_it_and_not_the_address(app, ada, atlas):
    browser = Browser(app, ada.site)
    for browser.address in ("192.0.2.1", "2001:db8:1::5", "10.9.9.9"):
        browser.sends()
    caller = ada.key(WRITE)
    caller.sends(ada.site, ip="203.0.113.9")
    caller.sends(ada.site, ip="203.0.113.9", country="gb")
    rows = stored(app, ada.site)
    assert [row["country"] for row in rows] == ["CH", "NO", "", "FR", "GB"]
    assert not any(address in str(rows) for address in ("192.0.2.1", "2001:db8", "203.0.113"))


def test_a_file_put_in_its_place_is_taken_up(atlas, monkeypatch):
    assert geo.country("192.0.2.1") == "CH"
    mmdb(atlas, {"192.0.2.0/24": {"country": {"iso_code": "IT"}}})
    assert geo.country("192.0.2.1") == "CH"
    monkeypatch.setattr(geo.time, "monotonic", lambda now=geo.time.monotonic: now() + geo.LOOK_AGAIN_SECONDS)
    assert geo.country("192.0.2.1") == "IT"
    assert geo.country("203.0.113.7") == ""


@pytest.mark.parametrize("bad", [b"", b"x" * 10_000, None])
def test_one_that_cannot_be_read_is_not(atlas, monkeypatch, bad):
    monkeypatch.setattr(geo, "LOOK_AGAIN_SECONDS", 0)
    assert geo.country("192.0.2.1") == "CH"
    if bad is None:
        atlas.unlink()
    else:
        broken = atlas.with_suffix(".bad")
        broken.write_bytes(bad)
        os.replace(broken, atlas)
    assert geo.country("192.0.2.2") == geo.country("192.0.2.1") == "CH"
    mmdb(atlas, {"192.0.2.0/24": {"country": {"iso_code": "IT"}}})
    assert geo.country("192.0.2.1") == "IT"


def test_a_damaged_file_makes_countries_unknown_and_nothing_worse(atlas):
    whole, chance = atlas.read_bytes(), random.Random(5)
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 5, 50))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = atlas.with_name(f"damaged-{number}")
        path.write_bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])
        geo.bind(str(path))
        for address in ("192.0.2.1", "2001:db8:1::1", "203.0.113.1"):
            code = geo.country(address)
            assert code == "" or (len(code) == 2 and code.isalpha())


def test_the_server_does_not_start_without_the_file_it_is_told_of(tmp_path, atlas):
    assert str(atlas) == config.load(GEOIP_DATABASE=str(atlas)).GEOIP_DATABASE
    (tmp_path / "garbage").write_bytes(b"x" * 100_000)
    for path in (tmp_path / "nothing", tmp_path / "garbage", tmp_path):
        with pytest.raises(config.WrongSetting, match="GEOIP_DATABASE must be the path of an MMDB file"):
            config.load(GEOIP_DATABASE=str(path))


def examined(app):
    with app.app_context():
        return {check.name: check for check in doctor.examine(app)}


def test_the_doctor_tells_how_old_the_lists_are(app, tmp_path, monkeypatch, moved_clock):
    today = clock.now()
    found = examined(app)
    assert found["countries"].fine
    assert "GEOIP_DATABASE names no file" in found["countries"].says
    assert found["browsers and bots"].says.count("(20") == 2
    assert "Old" not in found["browsers and bots"].says

    monkeypatch.setitem(app.config, "GEOIP_DATABASE", mmdb(tmp_path / "geo.mmdb", built=today - timedelta(days=179)))
    assert f"Test-Country of {today - timedelta(days=179):%Y-%m-%d}" in examined(app)["countries"].says
    assert "Old" not in examined(app)["countries"].says
    moved_clock.forward(days=2)
    assert examined(app)["countries"].fine
    assert "Old: addresses move" in examined(app)["countries"].says
    moved_clock.forward(days=400)
    assert "Old: newer ones come" in examined(app)["browsers and bots"].says
    (tmp_path / "geo.mmdb").unlink()
    assert not examined(app)["countries"].fine
