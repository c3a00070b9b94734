-- Each damaged digest: on how many nodes, and how many others have a verified copy or one that was not read.
WITH damaged AS (
    SELECT digest, any_value(kind) AS kind, mode(code) AS code, count(DISTINCT host) AS nodes, min(host) AS a_node
    FROM finding
    WHERE day = (SELECT max(day) FROM report) AND severity IN ('critical', 'error') AND digest <> ''
    GROUP BY digest
), held AS (
    SELECT copy.digest, count(DISTINCT host) FILTER (state = 'verified') AS verified, min(host) FILTER (state = 'verified') AS from_node,
        count(DISTINCT host) FILTER (state = 'present') AS present
    FROM copy
    WHERE day = (SELECT max(day) FROM report)
    GROUP BY copy.digest
)
SELECT damaged.*, coalesce(verified, 0) AS verified, from_node, coalesce(present, 0) AS present
FROM damaged LEFT JOIN held USING (digest)
ORDER BY nodes DESC, digest
LIMIT 100;
