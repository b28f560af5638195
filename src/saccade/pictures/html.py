"""Pages that need nothing but themselves: pictures as HTML, and the frame around a page, light and dark.

Text given as `str` is escaped here, except where an argument is called `html` or `style`.
"""

import base64
from html import escape
from importlib.resources import files

from torch import Tensor

from saccade.pictures.io import encode


def image(
    picture: Tensor, *, alt: str, kind: str = "", density: float = 1.0, format: str = "webp", quality: int = 88
) -> str:
    """A picture (3, H, W) in [0, 1] as an `img` that holds its own data.

    alt: what one would say of it to somebody who cannot see it. kind: classes of the style sheet ("pixels" shows
    pixels as squares). density: device pixels for one CSS pixel of its natural size. quality: 100 is lossless.
    """
    data = base64.b64encode(encode(picture, format=format, quality=quality)).decode("ascii")
    height, width = (round(side / density) for side in picture.shape[1:])
    classes = f' class="{kind}"' if kind else ""
    return (
        f'<img{classes} src="data:image/{format};base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'
    )


def page(title: str, html: str, *, description: str, style: str = "", style_file: str = "") -> str:
    """A whole document around `html`.

    style: CSS that is added to `base_style()`, both inside the page. style_file: the address of a file that holds all
    of the style, for sets of pages that share it.
    """
    look = f'<link rel="stylesheet" href="{escape(style_file)}">' if style_file else ""
    look = look or f"<style>\n{base_style()}{style}</style>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta name="description" content="{escape(description)}">\n'
        f"<title>{escape(title)}</title>\n{look}\n</head>\n<body>\n{html}\n</body>\n</html>\n"
    )


def base_style() -> str:
    """The CSS that all pages have in common: colours in light and dark, type, links, headings."""
    return files("saccade.pictures").joinpath("page.css").read_text("utf-8")
