"""Writes git_version.h for @local_config_git. Runs while Bazel loads the workspace, under Python 2 or 3."""
from __future__ import absolute_import
from __future__ import print_function
from builtins import bytes  # Python 2 has this module only where the package `future` is installed
import argparse
import os
import subprocess


def git_version(root):
  """The tree's `git describe`, or "unknown" where the tree is no clone, as an unpacked archive never is."""
  if not os.path.isdir(os.path.join(root, ".git")):
    return "unknown"
  try:
    described = subprocess.check_output(["git", "-C", root, "describe", "--always"])
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return bytes(described).decode("utf-8").strip()


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--configure", required=True, metavar="ROOT")
  parser.add_argument("--gen_root_path", required=True, metavar="DIR")
  args = parser.parse_args()
  if not os.path.isdir(args.gen_root_path):
    os.makedirs(args.gen_root_path)
  with open(os.path.join(args.gen_root_path, "git_version.h"), "w") as header:
    header.write('#define TF_GIT_VERSION "%s"\n' % git_version(args.configure))


if __name__ == "__main__":
  main()
