class UserError(Exception):
    """A fault that the user can mend; shown as one message, without a traceback, exit status 2.

    The text says what is wrong, where, and what is allowed or what to do.
    """


class BackendError(Exception):
    """A backend that can't be used: its source does not compile, or its op names nothing callable.

    A finding about this backend, and no reason to stop the others; the text says what and where.
    """
