-- Examples of rows whose key is null.
SELECT {key} FROM {work} WHERE {any_null} LIMIT {examples}
