-- The counters of each slice, from its stored rows; the columns of StatusCounts in its order. A row that names another
-- run was answered there: it is cached here and costs this run nothing. A cost that is NULL although the row was asked
-- in this run is unknown, not nothing.
WITH stored AS (
    SELECT
        llm_slice, llm_status, llm_cached, llm_attempts, llm_input_tokens, llm_output_tokens, llm_cost_usd,
        llm_run_id = $run AS ours
    FROM {table}
    WHERE $number IS NULL OR llm_slice = $number
)
SELECT
    llm_slice,
    count(*) AS all_rows,
    count(*) FILTER (llm_status = 'ok') AS ok,
    count(*) FILTER (llm_status = 'failed') AS failed,
    count(*) FILTER (llm_status = 'pending') AS pending,
    count(*) FILTER (llm_cached OR NOT ours) AS cached,
    coalesce(sum(llm_attempts) FILTER (ours), 0)::BIGINT AS attempts,
    coalesce(sum(llm_input_tokens) FILTER (ours), 0)::BIGINT AS input_tokens,
    coalesce(sum(llm_output_tokens) FILTER (ours), 0)::BIGINT AS output_tokens,
    sum(llm_cost_usd) FILTER (ours) AS cost_usd,
    count(*) FILTER (ours AND llm_cost_usd IS NULL AND llm_attempts > 0 AND llm_status <> 'pending') AS cost_unknown_rows
FROM stored
GROUP BY llm_slice
ORDER BY llm_slice
