DELETE FROM {table} WHERE llm_slice = ?
