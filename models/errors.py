"""The one exception for input that cannot be used: what was expected, what came, what to do."""


class InputError(ValueError):
    """Bad input. The command line prints its text and exits with code 2; everything else is a failure of ours."""
