-- How many keys stand in more than one row, and in how many rows altogether.
SELECT count(*), coalesce(sum(copies), 0)::BIGINT
FROM (SELECT count(*) AS copies FROM {frozen} GROUP BY {key} HAVING count(*) > 1)
