#include "tensorflow/c/c_api.h"

#include "gen/git_version.h"

extern "C" {
const char* TF_Version(void) { return "1.15.0"; }
const char* TF_GitVersion(void) { return TF_GIT_VERSION; }
}
