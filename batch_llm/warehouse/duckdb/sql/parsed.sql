-- A statement as DuckDB reads it, JSON; one that it cannot read has "error".
SELECT json_serialize_sql($1)
