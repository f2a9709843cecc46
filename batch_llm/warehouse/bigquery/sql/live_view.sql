CREATE OR REPLACE VIEW {view} OPTIONS (description = {mark}) AS SELECT * FROM {table}
