-- CSV files as one relation of texts, strictly; column_types.py says what the columns are.
SELECT *{folders} FROM read_csv(
    {files},
    union_by_name = true, hive_partitioning = false,
    header = true, skip = 0, comment = '',
    delim = {delimiter}, quote = '"', escape = '"', strict_mode = true,
    all_varchar = true
)
