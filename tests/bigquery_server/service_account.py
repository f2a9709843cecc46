"""A service account's file whose tokens the fake gives.

Belongs here: the file. Not here: tokens (tokens.py).
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

__all__ = ["write_service_account"]


def write_service_account(path: Path, project: str, token_uri: str) -> None:
    """Write it, with a new key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    said = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "fake",
        "private_key": pem,
        "client_email": f"tests@{project}.iam.gserviceaccount.com",
        "client_id": "0",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(said), encoding="utf-8")
