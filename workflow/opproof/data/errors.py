class SourceError(Exception):
    """A source that does not give a file; the text says why."""


class AbsentError(SourceError):
    """There is no file of this name; there may be one of another."""
