-- The keys that stand in the most rows.
SELECT {key}, COUNT(*) AS copies FROM {work} GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY copies DESC, {key} LIMIT {examples}
