-- For each key column, the rows where it is null.
SELECT {null_counts} FROM {frozen}
