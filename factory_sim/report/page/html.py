"""A document as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup

from factory_sim.report.layout import Entry, Table, unbroken
from factory_sim.report.page.document import Document


def html(document: Document) -> str:
    """Return the text of the file. Whatever users have named is escaped."""
    return _environment().get_template("page.html.j2").render(document=document)


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("factory_sim.report.page", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests["entry"] = lambda block: isinstance(block, Entry)
    found.tests["table"] = lambda block: isinstance(block, Table)
    found.filters["unbroken"] = unbroken
    # The only text that is taken as it is: drawn by matplotlib, which escapes what it is given.
    found.filters["drawn"] = lambda picture, page: Markup(picture.on(page))
    return found
