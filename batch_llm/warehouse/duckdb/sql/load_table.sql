-- Rows from outside, as a table of their own; those of an earlier one go in the same transaction.
CREATE OR REPLACE TABLE {table} AS SELECT * FROM {collected}
