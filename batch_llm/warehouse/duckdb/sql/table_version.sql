-- A token for the content of a table, whatever the order of its rows. The sum stands beside the exclusive or because
-- the latter cannot see a pair of equal rows change. The long alias: hash(t) would mean a column t if there is one.
SELECT
    count(*),
    coalesce(bit_xor(hash(batch_llm_row)), 0),
    coalesce(sum(hash(batch_llm_row)::HUGEINT), 0)
FROM {source} AS batch_llm_row
