-- JSON lines as one relation of these columns (column_types.py).
SELECT * FROM read_json({files}, format = 'newline_delimited', records = true, columns = {columns})
