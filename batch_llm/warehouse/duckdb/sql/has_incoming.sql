EXISTS (SELECT 1 FROM {incoming} AS incoming WHERE {same_key})
