-- What DuckDB knows of the functions of a name: whether their values change, and what macros stand for.
SELECT function_type, stability, macro_definition, parameters
FROM duckdb_functions()
WHERE lower(function_name) = $1
