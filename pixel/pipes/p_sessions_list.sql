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
    SELECT groupArray((website_id, visitor, started))
    FROM (
        SELECT website_id, visitor, hits.1[1] AS started
        FROM (
            SELECT
                website_id,
                visitor,
                arrayJoin(sessions_of(groupArray((at, event_id, in_range, kept, source_kept)))) AS hits
            FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                                bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor != 0
            GROUP BY website_id, visitor
        )
        WHERE hits.3[1] AND has(hits.4, 1) AND hits.5[1]
        ORDER BY started DESC, session_id(website_id, visitor, started)
        LIMIT {limit:UInt32} + {offset:UInt32}
    )
) AS page
SELECT
    session_id(website_id, visitor, hits.1[1])             AS session_id,
    visitor_id,
    website_id,
    iso(fromUnixTimestamp64Milli(hits.1[1], 'UTC'))        AS started_at,
    (hits.1[-1] - hits.1[1]) / 1000                        AS seconds,
    countEqual(hits.3, 'pageview')                         AS pageviews,
    length(hits)                                           AS events,
    arrayFirst((path, name) -> name = 'pageview', hits.4, hits.3) AS entry_path,
    arrayLast((path, name) -> name = 'pageview', hits.4, hits.3)  AS exit_path,
    hits.5[1]                                              AS channel,
    hits.6[1]                                              AS source,
    hits.7[1]                                              AS medium,
    hits.8[1]                                              AS campaign,
    hits.9[1]                                              AS referrer,
    hits.10[1]                                             AS country,
    hits.11[1]                                             AS device,
    hits.12[1]                                             AS browser,
    hits.13[1]                                             AS os,
    length(hits) = 1 AND pageviews = 1                     AS bounced,
    hits.14[1]                                             AS bot
FROM (
    SELECT
        website_id,
        visitor,
        any(visitor_id) AS visitor_id,
        arrayJoin(sessions_of(groupArray((
            at, event_id, name, path, channel, source, medium, campaign, referrer, country, device, browser, os,
            bot)))) AS hits
    FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                        since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                        bots = {bots:String}, filters = {filters:Array(String)})
    WHERE visitor IN (SELECT arrayJoin(page).2)
    GROUP BY website_id, visitor
)
WHERE (website_id, visitor, hits.1[1]) IN (SELECT one.1, one.2, one.3 FROM (SELECT arrayJoin(page) AS one))
ORDER BY started_at DESC, session_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
