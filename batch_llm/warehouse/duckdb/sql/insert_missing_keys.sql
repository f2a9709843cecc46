-- The run's rows whose key is not in the output (any more), as they were published: sorting whole rows would need
-- room for all of them.
INSERT INTO {present} BY NAME
SELECT * FROM {incoming} AS incoming
WHERE NOT EXISTS (SELECT 1 FROM {present} AS present WHERE {same_key})
