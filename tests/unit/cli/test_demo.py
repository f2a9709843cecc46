"""The demo's environment."""

from batch_llm.cli.demo import drop_keys


def test_no_key_and_no_other_service_reaches_the_demo() -> None:
    kept = {"HOME": "/h", "PATH": "/bin", "BATCH_LLM_HOME": "/h/state", "LANG": "C", "DAGSTER_HOME": "/d"}
    dropped = (
        "OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "ANTHROPIC_AUTH_TOKEN", "MY_KEY", "GITHUB_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS", "DB_PASSWORD", "BATCH_LLM_PROVIDERS", "BATCH_LLM_REDIS_URL",
        "BATCH_LLM_WAREHOUSE", "BATCH_LLM_JOURNAL",
    )  # fmt: skip
    environ = {**kept, **dict.fromkeys(dropped, "x")}
    drop_keys(environ)
    assert environ == kept
