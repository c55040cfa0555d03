"""The list of websites."""


def test_websites_are_listed_newest_first(ada, caller):
    second = ada.website("second.example", timezone="Europe/Berlin")
    listed = caller.get("/pixel/websites").json["data"]
    assert [site["id"] for site in listed] == [second, ada.site]
    assert listed[0].keys() == {"id", "domain", "name", "timezone", "createdAt"}
    assert listed[0] | {"id": "", "createdAt": ""} == {
        "id": "", "domain": "second.example", "name": "second.example", "timezone": "Europe/Berlin", "createdAt": "",
    }  # fmt: skip
    assert all(site["id"].startswith("admx_") and site["createdAt"].endswith("Z") for site in listed)
