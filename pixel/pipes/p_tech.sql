-- title: Browsers and systems
-- about: What browsers and operating systems visitors use.
-- returns browser: Name of the browser; empty where it is not known.
-- returns os: Name of the operating system; empty where it is not known.
-- returns visitors: Distinct visitors with any event in the range.
-- returns pageviews: Their pageviews, and those without a visitor.
SELECT
    browser, os,
    uniqExactIf(visitor, visitor != 0)  AS visitors,
    countIf(is_view(hit))               AS pageviews
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
GROUP BY browser, os
ORDER BY visitors DESC, pageviews DESC, browser, os
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
