#ifndef TENSORFLOW_C_C_API_H_
#define TENSORFLOW_C_C_API_H_

extern "C" {
// The release, such as "1.15.0".
const char* TF_Version(void);

// The revision that @local_config_git found at load time, or "unknown".
const char* TF_GitVersion(void);
}

#endif  // TENSORFLOW_C_C_API_H_
