"""The tasks, by what they are about; tasks.py at the top hands them to invoke."""
