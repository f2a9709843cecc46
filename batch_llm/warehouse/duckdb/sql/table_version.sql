-- A token for the content of a table, whatever the order of its rows. The sum stands beside the exclusive or because
-- the latter cannot see a pair of equal rows change. By the columns' names: hash(t) would mean a column t where there is one.
SELECT
    count(*),
    coalesce(bit_xor(hash({columns})), 0),
    coalesce(sum(hash({columns})::HUGEINT), 0)
FROM {source}
