-- Findings of the newest day by rule and cause.
SELECT severity, code, cause, count(*) AS findings, count(DISTINCT host) AS nodes, count(DISTINCT nullif(digest, '')) AS digests
FROM finding
WHERE day = (SELECT max(day) FROM report)
GROUP BY severity, code, cause
ORDER BY list_position(['critical', 'error', 'warning', 'info'], severity), nodes DESC, code;
