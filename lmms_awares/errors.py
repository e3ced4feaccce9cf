"""The one base class of errors that a user can mend."""


class UserError(ValueError):
    """Something that whoever runs the program can mend; its message is one line that names the thing and the fix.

    The command prints that line and exits 2. An error of any other class is a bug and keeps its traceback.

    Example:
        >>> str(UserError("--limit 0 must be 1 or more"))
        '--limit 0 must be 1 or more'
    """
