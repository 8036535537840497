"""What every reader of reports raises."""


class ReportRefused(Exception):
    """A file that is not what its format demands. The text says what is wrong and where, for people."""

    def __init__(self, cause: str, *, line: int | None = None, column: int | None = None) -> None:
        place = ""
        if line is not None:
            place = f" (line {line}, column {column})" if column is not None else f" (line {line})"
        super().__init__(cause + place)
        self.cause = cause
        self.line = line
        self.column = column
