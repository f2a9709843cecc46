"""The kinds of provider, one small file each: what the providers file may say, and which class answers.

Belongs here: facts about one provider. Not here: an API's JSON (the files beside this folder), the list of all kinds
(config/provider_kinds.py). A kind knows no other kind.
"""

__all__: list[str] = []
