"""What the exit codes of ``curate`` mean. They are documented in the README."""

EXIT_FAULT = 1  # a fault of this program: please report it
EXIT_WRONG_INPUT = 2  # the call, a setting or an input is wrong
EXIT_SHARDS_FAILED = 3  # done, but some shards could not be read or made
EXIT_STORAGE = 4  # storage failed, and may come back
EXIT_DIFFERENCE = 5  # a check found a difference
