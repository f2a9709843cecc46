-- The run's rows whose key is not in the output (any more), as they were published: sorting whole rows would need
-- room for all of them.
INSERT INTO {present} BY NAME
SELECT * FROM {incoming} AS llm_incoming
WHERE NOT EXISTS (SELECT 1 FROM {present} AS llm_present WHERE {same_key})
