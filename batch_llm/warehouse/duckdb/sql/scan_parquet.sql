-- Parquet files as one relation.
SELECT *{folders} FROM read_parquet({files}, union_by_name = true, hive_partitioning = false)
