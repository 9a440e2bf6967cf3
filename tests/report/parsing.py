"""What a browser would make of a page, by html.parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

LOADING = {"src", "href", "srcset", "data", "action", "formaction", "poster", "background", "ping"}
ACTIVE = {"script", "iframe", "object", "embed", "link", "base", "form", "img", "video", "audio"}


@dataclass
class Parsed(HTMLParser):
    """Tags with attribute names in order, values of loading attributes, `<data>` texts."""

    nodes: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    data: list[tuple[str, str]] = field(default_factory=list)
    metas: list[dict[str, str | None]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    style: str = ""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append((tag, tuple(name for name, _ in attrs)))
        self.loaded += [value or "" for name, value in attrs if name in LOADING]
        if tag == "meta":
            self.metas.append(dict(attrs))
        if tag == "data":
            self.data.append((dict(attrs)["value"] or "", ""))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        last = self.open[-1] if self.open else ""
        if last == "style":
            self.style += data
        if last == "data":
            value, shown = self.data[-1]
            self.data[-1] = (value, shown + data)
        self.text.append(data)


def parse(page: str) -> Parsed:
    """Read a whole page."""
    parsed = Parsed()
    parsed.feed(page)
    parsed.close()
    return parsed


def active(parsed: Parsed) -> list[tuple[str, tuple[str, ...]]]:
    """Nodes that could run or load something."""
    return [
        (tag, names)
        for tag, names in parsed.nodes
        if tag in ACTIVE or any(name.startswith("on") or name == "style" for name in names)
    ]
