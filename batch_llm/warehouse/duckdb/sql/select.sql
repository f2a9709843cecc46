-- Some columns and rows of an input, in its own order.
SELECT {columns} FROM {source} WHERE {where}
