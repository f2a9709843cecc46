-- The counters of each slice, from its stored rows; the columns of StatusCounts in its order. A row that names another
-- run was answered there: it is cached here and costs this run nothing. A cost that is NULL although the row was asked
-- in this run is unknown, not nothing.
WITH stored AS (
    SELECT
        llm_slice, llm_status, llm_cached, llm_attempts, llm_input_tokens, llm_output_tokens, llm_cost_usd,
        llm_run_id = @run AS ours
    FROM {table}
    WHERE {which}
)
SELECT
    llm_slice,
    COUNT(*) AS all_rows,
    COUNTIF(llm_status = 'ok') AS ok,
    COUNTIF(llm_status = 'failed') AS failed,
    COUNTIF(llm_status = 'pending') AS pending,
    COUNTIF(llm_cached OR NOT ours) AS cached,
    IFNULL(SUM(IF(ours, llm_attempts, 0)), 0) AS attempts,
    IFNULL(SUM(IF(ours, llm_input_tokens, 0)), 0) AS input_tokens,
    IFNULL(SUM(IF(ours, llm_output_tokens, 0)), 0) AS output_tokens,
    SUM(IF(ours, llm_cost_usd, NULL)) AS cost_usd,
    COUNTIF(ours AND llm_cost_usd IS NULL AND llm_attempts > 0 AND llm_status <> 'pending') AS cost_unknown_rows
FROM stored
GROUP BY llm_slice
ORDER BY llm_slice
