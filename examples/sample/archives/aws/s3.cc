#include "s3.h"

namespace aws {

bool IsS3Path(const std::string& path) { return path.compare(0, 5, "s3://") == 0; }

}  // namespace aws
