"""What a page is made of, as the parser of Python sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Element:
    """A tag with its attributes and the text within it, that of inner tags included."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""

    def __getitem__(self, name: str) -> str | None:
        return self.attributes[name]


@dataclass
class PageParts(HTMLParser):
    """The elements of a page in their order."""

    elements: list[Element] = field(default_factory=list)
    open_ones: list[Element] = field(default_factory=list)

    APART = frozenset({"td", "th", "tr", "dt", "dd", "p", "li", "h2", "h3"})
    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __post_init__(self):
        super().__init__()

    @classmethod
    def of(cls, html: str) -> PageParts:
        """Parse a page."""
        page = cls()
        page.feed(html)
        page.close()
        return page

    def all(self, tag: str, **wanted: str) -> list[Element]:
        """The elements of a tag that have these attributes."""
        return [
            element
            for element in self.elements
            if element.tag == tag
            and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def text_of(self, name: str) -> str:
        """The text of the section of that id, with single spaces."""
        [section] = self.all("section", id=name)
        return " ".join(section.text.split())

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag in self.APART:
            self.handle_data(" ")
        if tag not in self.VOID:
            self.open_ones.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open_ones.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for element in self.open_ones:
            element.text += data
