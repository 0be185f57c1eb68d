"""What a build needs of this machine: the requirements, the examination, the fixes."""
