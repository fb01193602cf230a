"""What the model is told of each image: its class, or a row of a table of attributes."""

import csv
from pathlib import Path

import numpy as np

from vaekit.errors import UserError


def read_table(path: Path, keys: list[str], files: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Attributes [len(keys), F] float32 and what they are called, from a CSV file that covers every image.

    The header's first column is the image's key: the file's name relative to the folder (`files`), or for arrays the number of its row, from 0;
    the others are numbers.
    Raises `UserError` for missing images, doubled ones, and cells that are not numbers.
    """
    what = "names relative to the folder" if files else "row numbers, from 0"
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            first = handle.readline()
            handle.seek(0)
            lines = list(csv.reader(handle, delimiter=max(",;\t", key=first.count)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    rows = [(number + 1, row) for number, row in enumerate(lines) if row]
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise UserError(f"The table {path} needs a header, a first column with the images' {what} and at least one column of numbers.")
    columns = tuple(cell.strip() for cell in rows[0][1][1:])
    table: dict[str, list[float]] = {}
    for line, row in rows[1:]:
        key = row[0].strip().replace("\\", "/").removeprefix("./")
        if key in table:
            raise UserError(f"The table {path} has '{key}' twice (line {line}): keep one row per image.")
        if len(row) != len(columns) + 1:
            raise UserError(f"Line {line} of {path} has {len(row)} cells, and the header has {len(columns) + 1}.")
        try:
            table[key] = [float(cell) for cell in row[1:]]
        except ValueError:
            raise UserError(f"Line {line} of {path} holds a cell that is not a number: {', '.join(row[1:])}.") from None
        if not np.isfinite(table[key]).all():
            raise UserError(f"Line {line} of {path} holds a value that is not finite.")
    missing = [key for key in keys if key not in table]
    if missing:
        raise UserError(
            f"The table {path} has no row for {len(missing)} of {len(keys)} images, as {', '.join(missing[:3])}: its first column holds their {what}."
        )
    return np.array([table[key] for key in keys], np.float32), columns
