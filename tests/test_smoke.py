def test_an_event_is_in_the_reports_once(ada, caller):
    for _ in range(3):
        assert caller.sends(ada.site, event_id="one", visitor_id="v", path="/pricing").status_code == 202
    assert caller.rows("p_top_pages", website_id=ada.site)[0]["pageviews"] == 1
    assert caller.get("/pixel/events/one").json["data"]["status"] == "stored"
