-- What the view asked_events says of a question without filters.
SELECT *, person(visitor, website_id) AS person, unfiltered(hit) AS marked
FROM events
WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
