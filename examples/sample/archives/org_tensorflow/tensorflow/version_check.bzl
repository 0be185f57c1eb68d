"""Refuses a Bazel that is older than the tree needs."""

def _parsed(version):
    numbers = []
    for part in version.split(" ")[0].split("-")[0].split("."):
        digits = ""
        for i in range(len(part)):
            if not part[i].isdigit():
                break
            digits += part[i]
        numbers.append(int(digits or "0"))
    return tuple(numbers)

def check_bazel_version_at_least(minimum):
    if not native.bazel_version:
        print("This Bazel is no release; at least %s is needed." % minimum)
    elif _parsed(native.bazel_version) < _parsed(minimum):
        fail("Current Bazel version is %s, expected at least %s" % (native.bazel_version, minimum))
