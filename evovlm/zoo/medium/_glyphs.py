"""Capital letters and digits of three by five dots, so that pixels do not depend on a font file or font library."""

from __future__ import annotations

# Five rows of three dots each; a row is an octal digit whose highest bit is the left dot.
ROWS = {
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644", "G": "34553", "H": "55755",
    "I": "72227", "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "65555", "O": "75557", "P": "65644",
    "R": "65655", "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255", "Y": "55222",
    "Z": "71247", "0": "25552", "1": "26227", "2": "61247", "3": "61216", "4": "55711", "5": "74616", "6": "34752",
    "7": "71244", "8": "25252", "9": "25716",
}  # fmt: skip


def dots(text: str) -> list[tuple[int, int]]:
    """The dots (column, row) of a line of text; letters are four columns apart."""
    return [
        (4 * place + column, row)
        for place, letter in enumerate(text)
        for row, bits in enumerate(ROWS[letter])
        for column in range(3)
        if int(bits) >> (2 - column) & 1
    ]
