-- Some columns and rows of a table or view.
SELECT {columns} FROM {source} WHERE {where}
