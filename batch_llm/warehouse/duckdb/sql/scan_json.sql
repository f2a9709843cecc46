-- JSON lines as one relation of these columns (column_types.py).
SELECT *{folders} FROM read_json(
    {files},
    format = 'newline_delimited', records = true, hive_partitioning = false,
    columns = {columns}
)
