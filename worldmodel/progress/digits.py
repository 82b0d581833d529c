"""Large digits: a number that is three lines high."""

from __future__ import annotations

HEIGHT = 3
LARGE = {
    "0": ("┏━┓", "┃ ┃", "┗━┛"),
    "1": (" ╻ ", " ┃ ", " ╹ "),
    "2": ("╺━┓", "┏━┛", "┗━╸"),
    "3": ("╺━┓", "╺━┫", "╺━┛"),
    "4": ("╻ ╻", "┗━┫", "  ╹"),
    "5": ("┏━╸", "┗━┓", "╺━┛"),
    "6": ("┏━╸", "┣━┓", "┗━┛"),
    "7": ("╺━┓", "  ┃", "  ╹"),
    "8": ("┏━┓", "┣━┫", "┗━┛"),
    "9": ("┏━┓", "┗━┫", "╺━┛"),
    "-": ("   ", "╺━╸", "   "),
    ".": (" ", " ", "●"),
}


def large(number: str) -> list[str]:
    """The lines of a number in large digits; of other text, one line."""
    if not number or not set(number) <= LARGE.keys():
        return [number]
    return [" ".join(LARGE[letter][line] for letter in number) for line in range(HEIGHT)]
