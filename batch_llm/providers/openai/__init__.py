"""OpenAI's formats, for every kind of provider that speaks them.

Belongs here: its addresses, JSON and errors. Not here: whose endpoint it is (kinds/).
"""

__all__: list[str] = []
