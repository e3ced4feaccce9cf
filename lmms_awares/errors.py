"""Errors that a user can mend: one base class, and the kinds that callers tell apart."""


class UserError(ValueError):
    """Something that whoever runs the program can mend; its message is one line that names the thing and the fix.

    The command prints that line and exits 2. An error of any other class is a bug and keeps its traceback.

    Example:
        >>> str(UserError("--limit 0 must be 1 or more"))
        '--limit 0 must be 1 or more'
    """


class ConfigError(UserError):
    """A setting that cannot work."""


class SampleError(UserError):
    """A sample that cannot be answered; it is recorded as failed and the run goes on."""


class DataError(UserError):
    """Documents that are missing, lack a column, or hold what no scorer can take."""
