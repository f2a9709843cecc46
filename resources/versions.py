"""Do the Dagster packages belong together?

Belongs here: comparing versions. Not here: choosing them (pyproject.toml, uv.lock).
"""

from __future__ import annotations

from dagster.version import __version__ as dagster_version
from dagster_gcp.version import __version__ as gcp_version
from dagster_webserver.version import __version__ as webserver_version

from batch_llm.errors import ConfigurationError

__all__ = ["check_versions"]

LIBRARIES_BEHIND = 16  # dagster 1.13.27 goes with libraries 0.29.27


def check_versions() -> None:
    """Raise `ConfigurationError` when dagster, its UI and its libraries were resolved to versions that do not match.

    A resolve without the lock file picks such sets, and they fail much later and darkly.
    """
    _, minor, patch = dagster_version.split(".")
    expected = {
        "dagster-webserver": (webserver_version, dagster_version),
        "dagster-gcp": (gcp_version, f"0.{int(minor) + LIBRARIES_BEHIND}.{patch}"),
    }
    for package, (found, wanted) in expected.items():
        if found != wanted:
            raise ConfigurationError(
                f"{package} {found} does not go with dagster {dagster_version}, which wants {wanted}; run `make setup`"
            )
