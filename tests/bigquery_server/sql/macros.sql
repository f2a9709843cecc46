-- What GoogleSQL says otherwise than DuckDB.

-- CAST(x AS STRING): no zeros behind the last digit of a number, BYTES are UTF-8, two types are records here (schema.py).
-- Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions#cast_as_string (read 2026-11-28)
CREATE MACRO googlesql_text(x) AS CASE
    WHEN typeof(x) = 'DOUBLE' THEN regexp_replace(CAST(x AS VARCHAR), '\.0$', '')
    WHEN starts_with(typeof(x), 'DECIMAL') THEN regexp_replace(rtrim(CAST(x AS VARCHAR), '0'), '\.$', '')
    WHEN typeof(x) = 'BLOB' THEN decode(CAST(CAST(x AS VARCHAR) AS BLOB))
    WHEN starts_with(typeof(x), 'STRUCT("$')
        THEN regexp_extract(CAST(x AS VARCHAR), '^\{''?\$\w+''?: ''?(.*?)''?\}$', 1)
    ELSE CAST(x AS VARCHAR)
END;

-- FARM_FINGERPRINT takes STRING and BYTES.
-- Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/hash_functions#farm_fingerprint (read 2026-11-28)
CREATE MACRO googlesql_fingerprint(x) AS CASE
    WHEN typeof(x) = '"NULL"' THEN NULL
    WHEN typeof(x) = 'VARCHAR' THEN fingerprint64(encode(CAST(x AS VARCHAR)))
    WHEN typeof(x) = 'BLOB' THEN fingerprint64(CAST(CAST(x AS VARCHAR) AS BLOB))
    ELSE error('No matching signature for function FARM_FINGERPRINT for argument type ' || typeof(x))
END;
