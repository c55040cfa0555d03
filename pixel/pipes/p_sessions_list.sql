-- title: Sessions
-- about: Sessions that start in the range, newest first, each whole. Events without a visitor are in none.
-- returns session_id: Made from the website, the visitor and the start, so it never changes.
-- returns visitor_id: The visitor.
-- returns website_id: The website.
-- returns started_at: Time of the first event, in UTC.
-- returns seconds: From the first event to the last.
-- returns pageviews: Its pageviews.
-- returns events: All its events, pageviews too.
-- returns entry_path: Path of the first pageview; empty if there is none.
-- returns exit_path: Path of the last pageview; empty if there is none.
-- returns channel: Channel of the first event.
-- returns source: Source of the first event.
-- returns medium: Medium of the first event.
-- returns campaign: Campaign of the first event.
-- returns referrer: Referring host of the first event.
-- returns country: Country of the first event.
-- returns device: Device of the first event.
-- returns browser: Browser of the first event.
-- returns os: Operating system of the first event.
-- returns bounced: 1 when it is one pageview and nothing else, else 0.
-- returns bot: Name of the bot of the first event; empty for people.
--
-- The sessions of the page are found first, by little; then only their visitors' events are read in full.
WITH (
    SELECT groupArray((whose, person, head))
    FROM (
        SELECT whose, person, session[1] AS head
        FROM (
            SELECT person, any(visitor) AS whose, arrayJoin(sessions_of(arraySort(groupArray(marked)), whose)) AS session
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:UInt64}, until = {until:UInt64},
                              bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor != 0
            GROUP BY person
        )
        WHERE is_from(head) AND is_within(head, {since:UInt64}, {until:UInt64})
            AND arrayExists(hit -> is_kept(hit), session)
        ORDER BY at(head) DESC, person
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    )
) AS page
SELECT
    session_id(website_id, whose, at(hits.1[1]))         AS session_id,
    visitor_id,
    website_id,
    iso(time_of_hit(hits.1[1]))                            AS started_at,
    (at(hits.1[-1]) - at(hits.1[1])) / 1000                AS seconds,
    arrayCount(hit -> is_view(hit), hits.1)                AS pageviews,
    length(hits)                                           AS events,
    arrayFirst((path, hit) -> is_view(hit), hits.2, hits.1) AS entry_path,
    arrayLast((path, hit) -> is_view(hit), hits.2, hits.1) AS exit_path,
    hits.3[1]                                              AS channel,
    hits.4[1]                                              AS source,
    hits.5[1]                                              AS medium,
    hits.6[1]                                              AS campaign,
    hits.7[1]                                              AS referrer,
    hits.8[1]                                              AS country,
    hits.9[1]                                              AS device,
    hits.10[1]                                             AS browser,
    hits.11[1]                                             AS os,
    length(hits) = 1 AND pageviews = 1                     AS bounced,
    hits.12[1]                                             AS bot
FROM (
    SELECT
        person,
        any(website_id) AS website_id,
        any(visitor)    AS whose,
        any(visitor_id) AS visitor_id,
        arraySort(groupArray((
            marked, path, channel, source, medium, campaign, referrer, country, device, browser, os, bot))) AS rows,
        arrayJoin(arraySplit((row, pause) -> parts(pause, whose), rows, pauses_of(rows.1))) AS hits
    FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                      since = {since:UInt64}, until = {until:UInt64},
                      bots = {bots:String}, filters = {filters:Array(String)})
    WHERE visitor IN (SELECT arrayJoin(page).1)
    GROUP BY person
)
WHERE (person, hits.1[1]) IN (SELECT one.2, one.3 FROM (SELECT arrayJoin(page) AS one))
ORDER BY at(hits.1[1]) DESC, person
