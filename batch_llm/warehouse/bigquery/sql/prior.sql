-- The finished rows of one place whose key is in the run's input, each in the slice of its key.
CREATE TABLE IF NOT EXISTS {prior}
PARTITION BY RANGE_BUCKET({partition}, GENERATE_ARRAY(0, {most_slices}, 1))
OPTIONS (
    description = {mark},
    expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {kept_minutes} MINUTE)
)
AS
SELECT llm_frozen.{slice} AS {partition}, llm_present.*
FROM {work} AS llm_frozen
JOIN {present} AS llm_present ON {same_key}
WHERE llm_present.llm_status IN ('ok', 'failed')
