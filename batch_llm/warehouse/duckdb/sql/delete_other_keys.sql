-- replace: the output holds exactly the run's keys.
DELETE FROM {present} AS present
WHERE NOT EXISTS (SELECT 1 FROM {incoming} AS incoming WHERE {same_key})
