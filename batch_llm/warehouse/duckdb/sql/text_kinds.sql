-- For each column, which kinds of text it holds (text_kind.sql), in one pass.
SELECT {kinds} FROM {relation}
