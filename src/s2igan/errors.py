"""The one exception that users see."""


class UserError(Exception):
    """A failure that the user can mend.

    The message is one sentence that names the file or option concerned and the remedy. The command line prints it
    without a traceback and exits with status 1.
    """
