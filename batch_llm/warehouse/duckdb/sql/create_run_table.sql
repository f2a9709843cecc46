-- The table of a run's published slices, made by its first slice.
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {table} AS SELECT * FROM {collected} LIMIT 0
