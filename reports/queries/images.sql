-- Images that are damaged on some node of the newest day, and on how many they are without problems.
SELECT target, min(name) AS name, count(DISTINCT host) FILTER (status = 'damaged') AS damaged,
    count(DISTINCT host) FILTER (status = 'sound') AS sound
FROM image
WHERE day = (SELECT max(day) FROM report)
GROUP BY target
ORDER BY damaged DESC, name
LIMIT 100;
