"""The tasks, by what they are about; tasks.py at the top hands them to invoke."""

import sys

# invoke has turned this off by now (its --write-pyc turns it on): each command would compile all that it imports.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
