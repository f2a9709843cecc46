-- The input, frozen: one statement over one moment of it. A row's slice and its place in it are decided by its key alone:
-- the keys' hashes make buckets, buckets stand one after the other, rows in a bucket by key, and every {slice_rows} rows
-- are a slice. So every slice but the last is full, and no worker has to put all rows into one order.
CREATE TABLE IF NOT EXISTS {work}
PARTITION BY RANGE_BUCKET(_slice, GENERATE_ARRAY(0, {most_slices}, 1))
OPTIONS (
    description = {mark},
    expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {kept_minutes} MINUTE)
)
AS
WITH kept AS (
    SELECT
        {columns},
        ABS(MOD(FARM_FINGERPRINT(TO_JSON_STRING(STRUCT({key}))), {most_slices})) AS bucket
    FROM {source} {pinned}
    WHERE {where}
),
buckets AS (
    SELECT
        bucket,
        SUM(COUNT(*)) OVER (ORDER BY bucket) - COUNT(*) AS rows_before,
        SUM(COUNT(*)) OVER () AS all_rows
    FROM kept
    GROUP BY bucket
),
placed AS (
    SELECT
        kept.*,
        buckets.rows_before + ROW_NUMBER() OVER (PARTITION BY kept.bucket ORDER BY {work_key}) - 1 AS place,
        GREATEST({slice_rows}, DIV(buckets.all_rows + {most_slices} - 1, {most_slices})) AS slice_rows
    FROM kept
    JOIN buckets ON kept.bucket = buckets.bucket
)
SELECT DIV(place, slice_rows) AS _slice, MOD(place, slice_rows) AS _row, {work_columns}
FROM placed
