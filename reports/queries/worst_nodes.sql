-- The nodes with damage or an incomplete report on the newest day, worst first.
SELECT host, critical, error, images_damaged, images, complete, finished_at
FROM report
WHERE day = (SELECT max(day) FROM report) AND (critical + error > 0 OR NOT complete)
ORDER BY critical DESC, error DESC, host
LIMIT 100;
