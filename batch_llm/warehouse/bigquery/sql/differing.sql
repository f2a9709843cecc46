-- How many rows promoting a run again would change: those of its own that the output lacks or holds as another's, and
-- of the output those of no key of the run, where they would go.
SELECT COUNT(*) AS differing
FROM {present} AS llm_present
FULL JOIN {incoming} AS llm_incoming ON {same_key}
WHERE
    CASE
        WHEN llm_incoming.llm_status IS NULL THEN {others}
        WHEN llm_present.llm_status IS NULL THEN TRUE
        WHEN {gives_way} THEN NOT ({same})
        ELSE FALSE
    END
