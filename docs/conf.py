"""How Sphinx builds these pages: strictly, and without the network."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "holdwire"
author = "The holdwire maintainers"
project_copyright = author
release = installed("holdwire")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["tools", "_build", "example"]
root_doc = "index"
nitpicky = True
# What other libraries define is not described here, and their inventories would have to be fetched.
nitpick_ignore_regex = [
    ("py:.*", r"(?!holdwire\b).*"),
    ("py:class", r"holdwire\.(policy\.stream_limit\.StreamLimit|switches\.Testing)"),
    ("py:class", r"holdwire\.(testing\.streams\._Wire|transports\.wrap\.ClientT)"),
]
suppress_warnings = ["toc.empty_glob"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "holdwire"
html_static_path = ["_static"]
html_css_files = ["holdwire.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def words_for_users(_app: object, _what: str, _name: str, thing: object, _options: object, lines: list[str]) -> None:
    """Put in place what a docstring only points to: a private base's words, for the class that users import."""
    if not lines or not isinstance(thing, type):
        return
    lines[0] = lines[0].replace("See the module; made", "Made").removeprefix("See the module. ")
    if "; see ``_" in lines[0]:
        lines[0] = lines[0].partition("; see ``_")[0] + "."
        lines += ["", *(inspect.getdoc(thing.__bases__[0]) or "").splitlines()]


def words_of_attributes(_app: object, what: str, _name: str, _thing: object, _: object, lines: list[str]) -> None:
    """Undo what napoleon does to attributes: it takes the words before a colon for a type."""
    for number, line in enumerate(lines):
        if what in {"attribute", "property"} and line.startswith(":type: "):
            del lines[number]
            lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"
            break


def signatures(
    _app: object, _what: str, _name: str, _thing: object, _: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write ``...`` for defaults that are objects: what cannot be parsed would be shown without links."""
    return (None if signature is None else re.sub(r"= <[^>]*>", "= ...", signature)), returns


def setup(app: Sphinx) -> None:
    """Have docstrings edited before and after napoleon reads them."""
    app.connect("autodoc-process-docstring", words_for_users, priority=1)
    app.connect("autodoc-process-docstring", words_of_attributes, priority=900)
    app.connect("autodoc-process-signature", signatures)
