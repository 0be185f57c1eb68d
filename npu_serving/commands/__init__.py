"""The tasks, by what they are about; tasks.py at the top hands them to invoke."""

import os
import sys

# invoke has turned this off by now (its --write-pyc turns it on): each command would compile all that it imports.
# `inv` has Python pass over the environment, and this variable means us as well.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode or os.environ.get("PYTHONDONTWRITEBYTECODE"))
