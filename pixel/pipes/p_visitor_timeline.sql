-- title: Visitor's events
-- about: What a visitor did in the range, newest first, over all visitor ids that were identified as the same user.
-- visitor_id: required. The visitor; any of their ids.
-- returns timestamp: When it happened, in UTC.
-- returns name: pageview, custom or payment.
-- returns event_id: The event's id.
-- returns website_id: The website.
-- returns visitor_id: The visitor id it came with.
-- returns hostname: The host.
-- returns path: The page.
-- returns title: The page's title.
-- returns referrer: The referring host.
-- returns channel: Channel of the event itself.
-- returns source: Source of the event itself.
-- returns medium: Medium of the event itself.
-- returns campaign: Campaign of the event itself.
-- returns llm_engine: The AI assistant that sent them, if one did.
-- returns goal: The goal's name; empty for other events.
-- returns value: The goal's value; null without one.
-- returns amount: The payment's amount; null for other events.
-- returns currency: The payment's currency; empty for other events.
-- returns country: Country of the event.
-- returns device: Kind of device.
-- returns browser: Browser.
-- returns os: Operating system.
-- returns props: The event's props.
SELECT
    iso(time_of_hit(hit))                AS timestamp,
    name, event_id, website_id, visitor_id, hostname, path, title, referrer, channel, source, medium, campaign, llm_engine,
    goal, value,
    if(is_payment(hit), amount, NULL)    AS amount,
    currency, country, device, browser, os, props
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
WHERE visitor IN (SELECT sipHash64(arrayJoin({linked:Array(String)})))
ORDER BY hit DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
