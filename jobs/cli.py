"""The ``curate`` command: how it begins, and the ways in which it ends."""

import sys
from collections.abc import Sequence

from curation.errors import (
    CurationError,
    ReleaseClaimedError,
    ReleaseMismatchError,
    StorageError,
)
from jobs.exit_codes import EXIT_DIFFERENCE, EXIT_STORAGE, EXIT_WRONG_INPUT
from jobs.interruptions import Interrupted, readers_may_leave, stoppable

STOPPED = "stopped by {}. What was finished is kept; the same command goes on from there."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error that is the user's to mend is told in one screen."""
    with readers_may_leave():
        try:
            with stoppable():
                from jobs.app import app  # takes seconds, in which Ctrl-C may come
                from jobs.console import tell_logs

                tell_logs()
                app(arguments)
        except CurationError as error:
            from jobs.console import print_line

            print_line(f"error: {error}")
            sys.exit(exit_code(error))
        except Interrupted as stopped:
            print(STOPPED.format(stopped.signal.name), file=sys.stderr)
            sys.exit(stopped.exit_code)


def exit_code(error: CurationError) -> int:
    """Give the exit code that an error ends the command with."""
    if isinstance(error, StorageError | ReleaseClaimedError):
        return EXIT_STORAGE
    if isinstance(error, ReleaseMismatchError):
        return EXIT_DIFFERENCE
    return EXIT_WRONG_INPUT
