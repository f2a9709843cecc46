-- Finished rows of one place whose key is in the slice.
SELECT * FROM {present} AS present
WHERE
    present.llm_status IN ('ok', 'failed')
    AND EXISTS (SELECT 1 FROM {incoming} AS incoming WHERE {same_key})
