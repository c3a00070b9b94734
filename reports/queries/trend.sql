-- The newest day against the one before it: findings of critical and error that are new, gone and unchanged, on nodes
-- that have a report of both days.
WITH days AS (
    SELECT day, row_number() OVER (ORDER BY day DESC) AS age FROM (SELECT DISTINCT day FROM report)
), hosts AS (
    SELECT host FROM report JOIN days USING (day) WHERE age <= 2 GROUP BY host HAVING count(DISTINCT day) = 2
), seen AS (
    SELECT DISTINCT host, code, digest, name, age
    FROM finding JOIN days USING (day) JOIN hosts USING (host)
    WHERE age <= 2 AND severity IN ('critical', 'error')
), paired AS (
    SELECT code, bool_or(age = 1) AS now, bool_or(age = 2) AS before FROM seen GROUP BY host, code, digest, name
)
SELECT code, count(*) FILTER (now AND NOT before) AS new, count(*) FILTER (before AND NOT now) AS gone,
    count(*) FILTER (now AND before) AS unchanged
FROM paired GROUP BY code ORDER BY new DESC, code;
