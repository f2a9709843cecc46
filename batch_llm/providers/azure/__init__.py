"""What Azure OpenAI has of its own: signing in with Entra ID.

Belongs here: tokens. Not here: the JSON, which is OpenAI's (openai/), addresses (kinds/azure.py).
"""

__all__: list[str] = []
