INSERT INTO {table} BY NAME SELECT * FROM {collected}
