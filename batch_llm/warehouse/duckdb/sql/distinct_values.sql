-- How many different values some columns have together.
SELECT count(DISTINCT hash({columns})) FROM {frozen}
