-- The keys that stand in the most rows.
SELECT {key}, count(*) AS copies FROM {frozen} GROUP BY {key} HAVING count(*) > 1 ORDER BY copies DESC, {key} LIMIT ?
