-- replace: the output holds exactly the run's keys.
DELETE FROM {present} AS llm_present
WHERE NOT EXISTS (SELECT 1 FROM {incoming} AS llm_incoming WHERE {same_key})
