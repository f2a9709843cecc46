-- A token for which rows an output holds, whatever their order: who answered which question, and how it ended.
-- The sum stands beside the exclusive or because the latter cannot see a pair of equal rows change.
SELECT
    count(*),
    coalesce(bit_xor(hash(llm_run_id, llm_request_hash, llm_status)), 0),
    coalesce(sum(hash(llm_run_id, llm_request_hash, llm_status)::HUGEINT), 0)
FROM {present}
