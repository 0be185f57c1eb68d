#ifndef AWS_S3_H_
#define AWS_S3_H_

#include <string>

namespace aws {

// True for "s3://bucket/key". Nothing in the sample asks: this archive is declared and never needed.
bool IsS3Path(const std::string& path);

}  // namespace aws

#endif  // AWS_S3_H_
