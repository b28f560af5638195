"""Pages that need nothing but themselves: pieces of HTML with the pictures inside, and the frame around them.

Every function returns HTML. Text given as `str` is escaped here, except where an argument is called `html`.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from saccade.pictures.html import image as image
from saccade.pictures.html import page as frame


def bars(shares: Sequence[tuple[str, float]], *, kind: str = "", right: Iterable[str] = ()) -> str:
    """Named shares in [0, 1] as short horizontal bars with figures; those named in `right` are ticked."""
    ticked = set(right)
    lines = []
    for name, share in shares:
        tick = ' <b title="a fitting word">✓</b>' if name in ticked else ""
        lines.append(
            f'<li style="--share:{share:.2%}"><span>{escape(name)}{tick}</span><span>{per_cent(share)}</span></li>'
        )
    return f'<ol class="bars {kind}">{"".join(lines)}</ol>'


def paragraphs(*texts: str) -> str:
    """Paragraphs of HTML; empty ones are left out."""
    return "".join(f"<p>{text}</p>" for text in texts if text)


def made_by(code: str, note: str = "") -> str:
    """The line of code or the command that makes what stands above."""
    return f'<p class="made"><span>Made by</span> <code>{escape(code)}</code> {escape(note)}</p>'


def section(number: int, title: str, html: str) -> str:
    """A numbered part of the page, with an anchor for links."""
    return (
        f'<section id="part{number}" aria-labelledby="title{number}">'
        f'<h2 id="title{number}"><span class="number">{number}</span> {escape(title)}</h2>{html}</section>'
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A list of names and what there is to say of each (HTML)."""
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{html}</dd></div>" for name, html in rows)
    return f'<dl class="facts">{lines}</dl>'


def page(title: str, html: str, *, description: str) -> str:
    """A whole document around `html`."""
    style = files("saccade.studio").joinpath("page.css").read_text("utf-8")
    return frame(title, html, description=description, style=style)


def per_cent(share: float) -> str:
    """A share in [0, 1] as words: "82 %", "0.4 %" below one per cent; never "100 %" or "0 %" unless it is."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    digits = 0 if 0.0095 <= share < 0.995 else 1
    return f"{min(max(100 * share, 0.1), 99.9):.{digits}f} %"
