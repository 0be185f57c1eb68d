// The server's linkstamp: compiled as a part of the link action, with BUILD_SCM_REVISION defined.

#include "tensorflow_serving/model_servers/version.h"

const char kTFS_SCM_Revision[] = TF_MODELSERVER_VERSION_STRING;

extern "C" {
const char* TF_Serving_Version() { return kTFS_SCM_Revision; }
}
