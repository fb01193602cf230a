"""The error that is meant for people."""


class UserError(ValueError):
    """One clear sentence: what is wrong and what to do. The command line prints it alone and exits with 2."""
