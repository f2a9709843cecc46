-- CSV files as one relation, strictly. All rows are looked at before a type is chosen (sample_size), and a type is
-- chosen only where it keeps what is written: no booleans, no times, dates in ISO form only, 007 stays text.
SELECT *{folders} FROM read_csv(
    {files},
    union_by_name = true, hive_partitioning = false,
    header = true, skip = 0, comment = '',
    delim = {delimiter}, quote = '"', escape = '"', strict_mode = true,
    sample_size = -1,
    dateformat = '%Y-%m-%d', timestampformat = '%Y-%m-%d %H:%M:%S',
    auto_type_candidates = ['BIGINT', {hugeint}'DOUBLE', 'DATE', 'TIMESTAMP', 'VARCHAR']
)
