"""Owns texts that many rows have in common: each comes as one of its own, and one of them is kept for all.

Limits: TEXTS_MAX texts; with types of events at most 250 KB. When there are more, sharing begins anew.
"""

TEXTS_MAX = 1024


class SharedTexts:
    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def share(self, text: str) -> str:
        """An equal text, as a rule the same one as before."""
        shared = self._texts.get(text)
        if shared is None:
            if len(self._texts) == TEXTS_MAX:
                self._texts.clear()
            shared = self._texts[text] = text
        return shared
