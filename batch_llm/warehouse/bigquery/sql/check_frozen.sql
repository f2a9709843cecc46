-- What is wrong with a frozen input: keys that stand in more than one row, and in how many rows altogether; rows where a
-- key column is null; slices that are not numbered from 0 without a gap (the filter gave other rows when it was evaluated
-- again: RAND() and the like).
SELECT
    COUNTIF(copies > 1) AS keys_twice,
    SUM(IF(copies > 1, copies, 0)) AS rows_of_those,
    (
        SELECT COUNTIF(highest <> n - 1 OR total <> DIV(n * (n - 1), 2))
        FROM (SELECT COUNT(*) AS n, MAX(_row) AS highest, SUM(_row) AS total FROM {work} GROUP BY _slice)
    ) AS slices_with_gaps,
    {null_sums}
FROM (SELECT COUNT(*) AS copies, {null_counts} FROM {work} GROUP BY {key})
