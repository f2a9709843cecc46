CREATE TABLE {present} AS SELECT * FROM {incoming} LIMIT 0
