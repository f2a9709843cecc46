-- Rows that do not say they belong to this slice.
SELECT count(*) FROM {collected} WHERE llm_slice IS DISTINCT FROM ?
