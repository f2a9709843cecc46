-- How many rows an input has under a filter.
SELECT COUNT(*) AS all_rows FROM {source} WHERE {where}
