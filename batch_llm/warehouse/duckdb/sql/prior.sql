-- Finished rows of one place whose key is in the slice.
SELECT * FROM {present} AS llm_present
WHERE
    llm_present.llm_status IN ('ok', 'failed')
    AND EXISTS (SELECT 1 FROM {incoming} AS llm_incoming WHERE {same_key})
