#!/bin/bash
# Tells Bazel the revision to stamp the server with. Like the real one it asks git, which also finds a repository that
# merely encloses this tree.
if [ -d .git ] || git rev-parse --git-dir >/dev/null 2>&1; then
  revision=$(git rev-parse --short HEAD) || exit 1
  echo "BUILD_SCM_REVISION ${revision}"
else
  echo "BUILD_SCM_REVISION no_git"
fi
