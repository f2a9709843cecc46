-- A run's rows into the output: a key that is there keeps its row unless it gives way, one that is not gets one.
MERGE {present} AS llm_present
USING {incoming} AS llm_incoming
ON {same_key}
WHEN MATCHED AND ({gives_way}) THEN UPDATE SET {updates}
WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({values})
{others}
