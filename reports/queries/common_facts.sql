-- Values of facts that are more frequent on nodes with a cause than on all nodes: at least 5 nodes, 1.5 times the
-- average, and 3 standard deviations above what the average lets expect.
WITH today AS (
    SELECT host, address, facts FROM report WHERE day = (SELECT max(day) FROM report)
), hit AS (
    SELECT DISTINCT host, address, if(cause = '', code, cause) AS cause
    FROM finding
    WHERE day = (SELECT max(day) FROM report) AND severity IN ('critical', 'error')
), fact AS (
    SELECT host, address, entry.key AS name, entry.value AS value FROM today, unnest(map_entries(facts)) AS entries (entry)
), held AS (
    SELECT name, value, count(*) AS nodes FROM fact GROUP BY ALL
), rate AS (
    SELECT cause, count(*) / (SELECT count(*) FROM today) AS rate FROM hit GROUP BY cause
), both_of AS (
    SELECT cause, name, value, count(*) AS damaged FROM hit JOIN fact USING (host, address) GROUP BY ALL
)
SELECT cause, name, value, damaged, nodes, round(damaged / (nodes * rate), 2) AS lift,
    round((damaged - nodes * rate) / sqrt(nodes * rate * (1 - rate)), 1) AS score
FROM both_of JOIN held USING (name, value) JOIN rate USING (cause)
WHERE rate < 1 AND damaged >= 5 AND damaged >= 1.5 * nodes * rate
    AND damaged - nodes * rate >= 3 * sqrt(nodes * rate * (1 - rate))
ORDER BY cause, score DESC;
