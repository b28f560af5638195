"""The one exception of this library."""


class SaccadeError(Exception):
    """Something a person can mend.

    The message is one or two plain sentences: the operation, what was given, what was expected, how to mend it.
    The command line prints it without a traceback and exits with status 2.
    """
