-- What one text of a column may be, as a bit; column_types.py has their names. Numbers with a fraction, of up to 18
-- digits, tell how many places it has, and whether its last one is a 0 that a DOUBLE would not keep.
CASE
    WHEN {column} IS NULL THEN 0
    WHEN strlen({column}) > 60 THEN 128
    WHEN regexp_full_match({column}, '0|-?[1-9][0-9]{{0,14}}') THEN 1
    WHEN regexp_full_match({column}, '-?[1-9][0-9]{{15,37}}')
        THEN CASE WHEN TRY_CAST({column} AS BIGINT) IS NOT NULL THEN 2 ELSE 4 END
    WHEN regexp_full_match({column}, '-?(0|[1-9][0-9]*)?[.][0-9]+') THEN CASE
        WHEN strlen({column}) <= 19
            THEN (1::BIGINT << (8 + strlen(split_part({column}, '.', 2))))
                + CASE WHEN regexp_matches({column}, '[.][0-9]+0$') THEN 256 ELSE 0 END
        WHEN regexp_matches({column}, '[.][0-9]+0$') THEN 128
        ELSE 8
    END
    WHEN regexp_full_match({column}, '-?[0-9]*[.][0-9]+[eE][+-]?[0-9]{{1,3}}|-?[0-9]+[eE][+-][0-9]{{1,3}}')
        AND isfinite(TRY_CAST({column} AS DOUBLE)) THEN 8
    WHEN {column} IN ('nan', 'inf', '-inf') THEN 16
    WHEN regexp_matches({column}, '^[0-9]{{4}}-') AND CAST(TRY_CAST({column} AS DATE) AS VARCHAR) = {column} THEN 32
    WHEN regexp_full_match({column}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}')
        AND CAST(TRY_CAST({column} AS TIMESTAMP) AS VARCHAR) = {column} THEN 64
    ELSE 128
END
