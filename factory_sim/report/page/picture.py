"""A plot as part of a page: an SVG element, with its question and answer as text beside it."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMED = re.compile(r'\b(id="|href="#|url\(#)')


class Picture(NamedTuple):
    """name: of its file, without an end. question, answer: what it is asked, and what it shows.
    svg: an element, with a size by its view box only."""

    name: str
    question: str
    answer: str
    svg: str

    def on(self, page: str) -> str:
        """Return the element with ids that are its own on a page with others."""
        return _NAMED.sub(rf"\g<1>{page}-{self.name}-", self.svg)
