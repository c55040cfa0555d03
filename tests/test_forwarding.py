"""Which address a request counts for, behind proxies and past them, and where the server listens."""

import json
import socket
from contextlib import closing

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
from pixel import doctor, forwarding, telemetry
from tests.cast import error, trust
from tests.server import Server, until
from tests.test_health import total
from tests.test_request_log import found

CLIENT, OTHER = "203.0.113.9", "198.51.100.77"


def seen(hops, proxies, peer, header=None, **environ):
    """The environment that the application behind the middleware gets."""
    caught = {}
    networks = forwarding.parse_networks(proxies)
    application = forwarding.ForwardedAddress(lambda environ, _: caught.update(environ) or (), hops, networks)
    forwarded = {} if header is None else {"HTTP_X_FORWARDED_FOR": header}
    application({"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", **forwarded, **environ}, None)
    return caught


def address(*arguments):
    return seen(*arguments)["REMOTE_ADDR"]


# -- the address


def test_a_trusted_peer_reports_the_client_and_another_peer_does_not():
    assert address(1, "10.0.0.0/8", "10.1.1.1", CLIENT) == CLIENT
    assert address(1, "10.0.0.0/8", "127.0.0.1", CLIENT) == "127.0.0.1"
    assert address(1, "10.0.0.0/8", "::ffff:10.1.1.1", CLIENT) == CLIENT
    assert address(1, "fc00::/7", "fd00::1%eth0", CLIENT) == CLIENT
    assert address(0, "10.0.0.0/8", "10.1.1.1", CLIENT) == "10.1.1.1"
    assert address(0, "10.0.0.0/8", "::ffff:192.0.2.1") == "192.0.2.1"
    assert address(1, "10.0.0.0/8", "unix", CLIENT) == "unix"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{OTHER}, {CLIENT}", CLIENT),
        (f'"{OTHER}, {CLIENT}', CLIENT),
        (f"garbage,,;\t{CLIENT[:5]}, {CLIENT}", CLIENT),
        (f" {CLIENT} ", CLIENT),
        (f"{CLIENT}:55123", CLIENT),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:0db8:0::1", "2001:db8::1"),
        (f"::ffff:{CLIENT}", CLIENT),
    ],
)
def test_the_value_that_the_proxy_appended_is_the_address(header, expected):
    assert address(1, "10.0.0.0/8", "10.1.1.1", header) == expected


@pytest.mark.parametrize(
    "value",
    ["", " ", ",", "unknown", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x",
     "[1.2.3.4]", "[::1", "::1]", "[::1]x", "[]", "fe80::1%eth0", "[fe80::1%x]:1", "1.2.3.4, ", "1.2.3.4;5.6.7.8", "\xb2.2.3.4",
     "1" * 8000, ":" * 8000, "'1.2.3.4'", "for=1.2.3.4", "\x00"],
)  # fmt: skip
def test_a_malformed_value_leaves_the_address_of_the_peer(app, monkeypatch, value):
    assert address(1, "10.0.0.0/8", "10.1.1.1", value) == "10.1.1.1"
    trust(app, monkeypatch, 1)
    # The peer is a proxy, so its being on this machine opens nothing.
    asked = app.test_client().get("/metrics", environ_base={"HTTP_X_FORWARDED_FOR": value})
    assert error(asked) == (404, "not_found")


def test_two_proxies_report_the_client_through_both():
    proxies, peer = "10.0.0.0/8, 192.0.2.0/24", "10.1.1.1"
    assert address(2, proxies, peer, f"{OTHER}, {CLIENT}, 192.0.2.8") == CLIENT
    # Past the outer proxy: the inner one appended the client's own address.
    assert address(2, proxies, peer, f"{OTHER}, {CLIENT}") == CLIENT
    assert address(2, proxies, peer, CLIENT) == CLIENT
    assert address(2, proxies, peer, "garbage, 192.0.2.8") == peer
    assert address(2, proxies, peer) == peer


WRITTEN = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60),
    st.lists(
        st.one_of(
            st.ip_addresses().map(str), st.ip_addresses(network="10.0.0.0/8").map(str), st.sampled_from(["", "x"])
        ),
        max_size=5,
    ).map(", ".join),
)
PROXY = st.ip_addresses(network="10.0.0.0/8").map(str)
STRANGER = st.ip_addresses().filter(lambda address: str(address) == forwarding.parse_address(str(address))).filter(
    lambda address: not str(address).startswith("10.")).map(str)  # fmt: skip


@pytest.mark.case(61)
@given(
    written=st.none() | WRITTEN,
    client=STRANGER,
    proxies=st.lists(PROXY, min_size=1, max_size=4),
    skipped=st.integers(0, 3),
)
def test_a_client_cannot_choose_its_address(written, client, proxies, skipped):
    hops = len(proxies)
    # It may also connect to an inner proxy, past the outer ones.
    entered = proxies[min(skipped, hops - 1) :]
    header = ", ".join([*([] if written is None else [written]), client, *entered[:-1]])
    assert address(hops, "10.0.0.0/8", entered[-1], header) == client
    # Past all proxies it is the peer.
    assert address(hops, "10.0.0.0/8", client, written) == client


@pytest.mark.case(61)
@given(written=WRITTEN, peer=st.ip_addresses().map(str), hops=st.integers(0, 3))
def test_any_header_leaves_an_address(written, peer, hops):
    value = address(hops, "0.0.0.0/0, ::/0", peer, written)
    assert value in {peer, forwarding.parse_address(peer)} or forwarding.parse_address(value) == value


def test_the_scheme_comes_from_a_trusted_peer_only():
    def scheme(peer, header, value, hops=1):
        return seen(hops, "10.0.0.0/8", peer, header, HTTP_X_FORWARDED_PROTO=value)["wsgi.url_scheme"]

    assert scheme("10.1.1.1", CLIENT, "https") == "https"
    assert scheme("10.1.1.1", f"x, {CLIENT}", "http, HTTPS") == "https"
    assert scheme("10.1.1.1", f"{CLIENT}, 10.1.1.2", "https, http", hops=2) == "https"
    assert scheme("10.1.1.1", f"{CLIENT}, 10.1.1.2", "https", hops=2) == "https"
    assert scheme("10.1.1.1", CLIENT, "javascript") == "http"
    assert scheme("127.0.0.1", CLIENT, "https") == "http"
    assert scheme("10.1.1.1", CLIENT, "https", hops=0) == "http"


@pytest.mark.case(61)
def test_other_forwarding_headers_change_nothing(app, monkeypatch, nobody):
    trust(app, monkeypatch, 1)
    others = {"Forwarded": f"for={CLIENT};proto=https;host=evil.example", "X-Real-IP": CLIENT, "True-Client-IP": CLIENT,
              "X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil"}  # fmt: skip
    asked = nobody.get("/me", headers=others, environ_base={"REMOTE_ADDR": "127.0.0.1"})
    assert found(app, asked)["address"] == "127.0.0.0"
    assert "evil" not in str(asked.headers) + asked.text


# -- what the address decides


@pytest.mark.case(61)
def test_numbers_are_shown_to_a_private_client_that_trusted_proxies_report(app, monkeypatch):
    def status(peer, header=None, **headers):
        headers |= {} if header is None else {"X-Forwarded-For": header}
        return app.test_client().get("/metrics", headers=headers, environ_base={"REMOTE_ADDR": peer}).status_code

    trust(app, monkeypatch, 2, "127.0.0.0/8, 192.0.2.1")
    assert status("127.0.0.1") == 200
    assert status("127.0.0.1", "192.168.1.5, 192.0.2.1") == 200
    assert status("127.0.0.1", f"192.168.1.5, {CLIENT}, 192.0.2.1") == 404
    assert status("127.0.0.1", CLIENT) == 404
    assert status("127.0.0.1", f"192.168.1.5, {CLIENT}") == 404
    assert status("127.0.0.1", "garbage, 192.0.2.1") == 404
    assert status("192.168.1.5", "127.0.0.1, 192.0.2.1") == 404
    assert status("192.168.1.5") == 200
    assert status("127.0.0.1", **{"X-Real-IP": CLIENT}) == 404
    assert status("127.0.0.1", Forwarded="for=127.0.0.1") == 404
    assert status(CLIENT, "127.0.0.1, 192.0.2.1") == 404


@pytest.mark.case(61)
def test_an_untrusted_peer_cannot_escape_its_limit_by_forging_addresses(app, monkeypatch, nobody):
    trust(app, monkeypatch, 1, "192.0.2.0/24")
    for number in range(61):
        last = nobody.get("/me", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    assert last.status_code == 429
    peer = {"REMOTE_ADDR": "192.0.2.1"}
    assert nobody.get("/me", headers={"X-Forwarded-For": OTHER}, environ_base=peer).status_code == 401


# -- reports


def test_the_doctor_reports_the_cases_of_the_last_day_that_fit_the_settings(app, monkeypatch, moved_clock):
    def proxies():
        return next(check for check in doctor.examine(app) if check.name == "proxies")

    def send(peer, header=None):
        headers = {} if header is None else {"X-Forwarded-For": header}
        app.test_client().get("/healthz", headers=headers, environ_base={"REMOTE_ADDR": peer})

    # Whatever was counted before keeps its date.
    telemetry.flush()
    moved_clock.forward(days=2)
    assert proxies().fine
    send(CLIENT, OTHER)
    assert proxies().fine
    assert "TRUSTED_HOPS is 0" in proxies().says
    send("127.0.0.1", CLIENT)
    assert not proxies().fine
    trust(app, monkeypatch, 2)
    send("10.1.1.1")
    assert proxies().fine
    for peer, header, case in (
        (CLIENT, None, forwarding.UNTRUSTED_PEER),
        ("10.1.1.1", CLIENT, forwarding.UNTRUSTED_PEER),
        ("127.0.0.1", f"{CLIENT}, {OTHER}", forwarding.UNTRUSTED_HOP),
    ):
        send(peer, header)
        assert not proxies().fine
        assert forwarding.CASES[case] in proxies().says
        moved_clock.forward(days=1, seconds=1)
        assert proxies().fine


def test_a_server_without_proxies_counts_the_peer_on_both_protocols_and_reports_the_header(tmp_path):
    server = Server(tmp_path / "instance", workers=1)
    _, _, key = server.set_up()
    server.start()
    try:
        hosts = ["127.0.0.1", "[::1]"] if socket.has_ipv6 and has_address("::1") else ["127.0.0.1"]
        for host in hosts:
            url = f"http://{host}:{server.port}"
            until(lambda url=url: httpx.get(url + "/healthz").status_code == 200, 10, server.said)
        assert shown(server, key) == "127.0.0.0"
        assert httpx.get(server.url + "/metrics").status_code == 200
        for _ in range(3):
            assert shown(server, key, CLIENT) == "127.0.0.0"
        assert server.log.read_text().count(forwarding.CASES[forwarding.NO_HOPS]) == 1
        assert CLIENT not in server.log.read_text()
        labels = {"case": forwarding.NO_HOPS, "peer": forwarding.PRIVATE}
        assert total(httpx.get(server.url + "/metrics").text, "pixel_forwarding_ignored_total", **labels) == 3
        assert "WRONG proxies: X-Forwarded-For arrives while TRUSTED_HOPS is 0." in doctors_report(server)
    finally:
        server.stop()


def test_a_server_behind_a_proxy_listens_on_this_machine_and_trusts_it(tmp_path):
    server = Server(tmp_path / "instance", workers=1, TRUSTED_HOPS="1")
    _, _, key = server.set_up()
    server.start()
    try:
        for other in filter(has_address, ("127.0.0.2", "::1", own_address())):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((other, server.port), timeout=5)
        assert shown(server, key, f"{OTHER}, {CLIENT}") == "203.0.113.0"
        assert httpx.get(server.url + "/metrics", headers={"X-Forwarded-For": CLIENT}).status_code == 404
        assert httpx.get(server.url + "/metrics", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 200
        assert "ok    proxies" in doctors_report(server)
    finally:
        server.stop()


@pytest.mark.case(61)
def test_a_peer_outside_the_trusted_proxies_counts_as_itself_and_is_reported(tmp_path):
    server = Server(tmp_path / "instance", workers=1, TRUSTED_HOPS="1", TRUSTED_PROXIES="10.0.0.0/8")
    _, _, key = server.set_up()
    server.start()
    try:
        for _ in range(3):
            assert shown(server, key, CLIENT) == "127.0.0.0"
        assert httpx.get(server.url + "/metrics", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 404
        assert server.log.read_text().count(forwarding.CASES[forwarding.UNTRUSTED_PEER]) == 1
        assert "WRONG proxies: A peer outside TRUSTED_PROXIES" in doctors_report(server)
    finally:
        server.stop()


def shown(server, key, header=None):
    """The address that the request log keeps of a request with X-Forwarded-For."""
    headers = {"Authorization": f"Bearer {key}", **({"X-Forwarded-For": header} if header else {})}
    sent = httpx.get(server.url + "/api/v1/me", headers=headers)
    assert sent.status_code == 200
    return json.loads(server.flask("request", "show", sent.headers["X-Request-Id"]))["address"]


def doctors_report(server):
    return server.flask("doctor", check=False).stdout


def has_address(address):
    """Whether this machine has an address, so that a refused connection proves that nothing listens there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with closing(socket.socket(family)) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def own_address():
    """An address of this machine on its network. No packet is sent."""
    with closing(socket.socket(type=socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.3"
        return probe.getsockname()[0]


# -- settings


@pytest.mark.skipif(not has_address("::1"), reason="This machine has no IPv6.")
def test_a_server_listens_on_an_ipv6_address_alone(tmp_path):
    server = Server(tmp_path / "instance", workers=1, BIND="::1")
    server.set_up()
    server.url = f"http://[::1]:{server.port}"
    server.start()
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
    finally:
        server.stop()


def test_a_host_name_is_no_address_to_listen_on(tmp_path):
    server = Server(tmp_path / "instance", BIND="localhost")
    server.start(wait=False)
    assert server.process.wait(30) != 0
    assert "BIND must be an IPv4 or IPv6 address" in server.said()
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("bind", ["localhost", "[::1]", "127.0.0.1:80", "fe80::1%eth0", "*", "0", "1.2.3", "::g", " "])
def test_a_wrong_address_to_listen_on_stops_the_start(bind):
    with pytest.raises(config.WrongSetting, match=r"^BIND must be"):
        config.load(BIND=bind)


@pytest.mark.parametrize(
    "proxies",
    ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/8,", ",", "x", "fe80::%eth0/64", "fe80::1%1", "10.0.0.0/-1",
     "::ffff:10.0.0.0/104", "10.0.0.0/8 192.168.0.0/16", "2001:db8::1/32", "/8", "١0.0.0.0/8", "[::1]"],
)  # fmt: skip
def test_wrong_networks_of_proxies_stop_the_start(proxies):
    with pytest.raises(config.WrongSetting, match=r"^TRUSTED_PROXIES must list networks") as refusal:
        config.load(TRUSTED_HOPS="1", TRUSTED_PROXIES=proxies)
    assert str(refusal.value).endswith(".")


def test_networks_of_proxies_need_a_number_of_hops():
    with pytest.raises(config.WrongSetting, match="TRUSTED_PROXIES needs TRUSTED_HOPS"):
        config.load(TRUSTED_PROXIES="10.0.0.0/8")
    assert config.load(TRUSTED_HOPS="1", TRUSTED_PROXIES=" 10.0.0.1 ,2001:db8::/32").trusted_proxies == tuple(
        forwarding.parse_networks("10.0.0.1/32,2001:db8::/32")
    )


def test_proxies_on_private_networks_are_trusted_by_default():
    assert config.load().trusted_proxies == ()
    trusted = config.load(TRUSTED_HOPS="1").trusted_proxies
    for proxy in ("127.0.0.1", "::1", "10.1.2.3", "172.18.0.1", "192.168.1.1", "fd00::1"):
        assert any(forwarding.ip_address(proxy) in network for network in trusted)
    assert not any(forwarding.ip_address(CLIENT) in network for network in trusted)


def test_one_address_to_listen_on_is_the_default_with_proxies():
    assert config.load(TRUSTED_HOPS="1", PORT="81").listen_addresses() == ["127.0.0.1:81"]
    assert config.load(TRUSTED_HOPS="1", BIND="::", PORT="81").listen_addresses() == ["[::]:81"]


def test_without_ipv6_all_ipv4_addresses_are_the_default(monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(config.socket, "socket", refuse)
    assert config.load().listen_addresses() == ["0.0.0.0:8000"]
