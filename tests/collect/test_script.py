"""The script itself, as a file."""

import gzip

import pytest


def test_the_script_is_cached_and_its_version_for_ever(app):
    from pixel.collect import script_version

    client = app.test_client()
    plain, versioned = client.get("/pixel.js"), client.get(f"/pixel.{script_version()}.js")
    assert plain.data == versioned.data
    assert plain.mimetype == "text/javascript"
    assert plain.headers["Cache-Control"] == "public, max-age=3600"
    assert versioned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    again = client.get("/pixel.js", headers={"If-None-Match": plain.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/pixel.000000000000.js").status_code == 404


@pytest.mark.parametrize("wanted", ["gzip", "br, gzip;q=0.5", "*", "gzip, deflate"])
def test_the_script_comes_packed_to_who_can_unpack_it(app, wanted):
    packed = app.test_client().get("/pixel.js", headers={"Accept-Encoding": wanted})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.data) < 2100
    plain = app.test_client().get("/pixel.js", headers={"Accept-Encoding": "gzip;q=0"})
    assert gzip.decompress(packed.data) == plain.data
    assert "Content-Encoding" not in plain.headers
    assert {"Accept-Encoding", "Origin"} <= {name for answer in (packed, plain) for name in answer.vary}
    assert packed.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
