-- Examples of rows whose key is null.
SELECT {key} FROM {frozen} WHERE {any_null} LIMIT ?
