"""The errors a user is meant to read."""


class UserError(Exception):
    """A mistake the user can mend. Its text is one line: what, where, and the mend.

    The command line prints `error: TEXT` and leaves with exit code 2; nothing else in Sammit catches it.
    """


class TellableError(UserError):
    """One whose text names nothing of a site's own, no path, no file, no patient: it may travel to the server."""


def nearest(word: str, known: list[str]) -> str:
    """A hint for an unknown word: the nearest known one, or the list of all.

    Args:
        word: what the user wrote.
        known: what would have been right.
    """
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"
