"""Packages of a finished build, to be taken elsewhere: a tar file, a Debian package, an image to run."""
