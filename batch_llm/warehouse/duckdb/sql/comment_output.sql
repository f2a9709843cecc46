COMMENT ON TABLE {present} IS {comment}
