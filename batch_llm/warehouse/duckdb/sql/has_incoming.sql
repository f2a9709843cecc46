EXISTS (SELECT 1 FROM {incoming} AS llm_incoming WHERE {same_key})
