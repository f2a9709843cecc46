"""Google's generateContent and its methods for vectors, of the Gemini API and of Vertex AI.

Belongs here: addresses, JSON, errors, signing in. Not here: which of the two doors it is (kinds/google.py).
"""

__all__: list[str] = []
