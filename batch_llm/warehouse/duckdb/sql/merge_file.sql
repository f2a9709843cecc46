-- What an output file holds after a promotion: the rows that stay, in their order, then the run's.
SELECT * FROM {present} AS llm_present
WHERE
    NOT EXISTS (SELECT 1 FROM {incoming} AS llm_incoming WHERE {same_key} AND ({gives_way}))
    AND {kept}
UNION ALL BY NAME
SELECT * FROM {incoming} AS llm_incoming
WHERE NOT EXISTS (SELECT 1 FROM {present} AS llm_present WHERE {same_key} AND ({gives_way}) IS NOT TRUE)
