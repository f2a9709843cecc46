-- The tables and views of one dataset, with what is known of them without looking at each.
SELECT table_id, row_count, size_bytes, last_modified_time, type FROM {source} ORDER BY table_id
