-- JSON lines as one relation. All rows are looked at before a type is chosen; dates in ISO form only.
SELECT *{folders} FROM read_json(
    {files},
    format = 'newline_delimited',
    union_by_name = true, hive_partitioning = false,
    sample_size = -1,
    dateformat = '%Y-%m-%d', timestampformat = '%Y-%m-%d %H:%M:%S'
)
