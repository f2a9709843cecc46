-- The output's rows that a row of the run takes the place of; insert_missing_keys puts those in.
DELETE FROM {present} AS llm_present
USING {incoming} AS llm_incoming
WHERE {same_key} AND ({gives_way})
