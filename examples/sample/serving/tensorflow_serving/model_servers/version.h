#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_VERSION_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_VERSION_H_

// The version, with the revision that Bazel stamps into version.cc when it links: "1.15.0-rc2+dev.sha.1a2b3c4".
#define TF_MODELSERVER_RELEASE "1.15.0-rc2"
#define TF_MODELSERVER_VERSION_STRING TF_MODELSERVER_RELEASE "+dev.sha." BUILD_SCM_REVISION

extern "C" {
const char* TF_Serving_Version();
}

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_VERSION_H_
