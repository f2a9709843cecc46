-- JSON lines with the fields and types that DuckDB finds; all rows are looked at.
SELECT * FROM read_json(
    {files},
    format = 'newline_delimited',
    union_by_name = true, hive_partitioning = false,
    sample_size = -1,
    map_inference_threshold = {fields_of_a_map},
    dateformat = '%Y-%m-%d', timestampformat = '%Y-%m-%d %H:%M:%S'
)
