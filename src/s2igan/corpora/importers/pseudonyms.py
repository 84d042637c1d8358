"""Speakers without their names."""

from __future__ import annotations


class Pseudonyms:
    """Names the speakers of a source "speaker-1", "speaker-2" and so on, in the order in which they are met.

    A number says nothing of who it is, unlike a hash of a name, which anyone can compute for every name in the village.
    Importers meet speakers in an order that does not depend on the machine, so that a person keeps the number.
    """

    def __init__(self, keep_personal_data: bool) -> None:
        self._keep = keep_personal_data
        self._names: dict[str, str] = {}

    def name_of(self, identity: str, personal: str) -> str | None:
        """The pseudonym of `identity`, or, where personal data is kept, `personal` as it was at the first meeting.

        None for an empty identity.
        """
        if not identity:
            return None
        if identity not in self._names:
            self._names[identity] = personal if self._keep else f"speaker-{len(self._names) + 1}"
        return self._names[identity]
