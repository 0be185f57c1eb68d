"""The archives of the sample's TensorFlow Serving, those of its TensorFlow included."""

load("@org_tensorflow//third_party:repo.bzl", "tf_http_archive")
load("@org_tensorflow//tensorflow:workspace.bzl", "tf_workspace")
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")

def tf_serving_workspace():
    """Declares everything; the files that TensorFlow's part is loaded from are inside its archive."""

    tf_workspace(path_prefix = "", tf_repo_name = "org_tensorflow")

    # ===== JSON, for the REST API =====
    http_archive(
        name = "com_github_tencent_rapidjson",
        urls = [
            "https://mirror.sample.invalid/github.com/Tencent/rapidjson/archive/v1.1.0.zip",
            "https://archives.sample.invalid/Tencent/rapidjson/archive/v1.1.0.zip",
        ],
        sha256 = "7bb8f88f999ea941d9d98b3e12bf45fec6cfc35223699e41d8536c4a106660ca",
        strip_prefix = "rapidjson-1.1.0",
        build_file = "@//third_party/rapidjson:BUILD",
    )

    # ===== HTTP =====
    http_archive(
        name = "com_github_libevent_libevent",
        urls = [
            "https://mirror.sample.invalid/github.com/libevent/libevent/archive/release-2.1.8-stable.tar.gz",
            "https://archives.sample.invalid/libevent/libevent/archive/release-2.1.8-stable.tar.gz",
        ],
        sha256 = "511f64e67ce398191351ddb2b9c8b10073984884d71f2ae97d47dd13b9d9e712",
        strip_prefix = "libevent-release-2.1.8-stable",
        build_file = "@//third_party/libevent:BUILD",
    )

    # ===== A later release than the one that TensorFlow declares under this name: Bazel takes the later declaration =====
    tf_http_archive(
        name = "com_google_absl",
        build_file = str(Label("@org_tensorflow//third_party:com_google_absl.BUILD")),
        sha256 = "89efffcb1c227cc088e50d190d20939918895406c9e529893f35da5f406648aa",
        strip_prefix = "abseil-cpp-881963eb33687b3ff40746e3d2a9e1d874b9fc6b",
        urls = [
            "https://mirror.sample.invalid/github.com/abseil/abseil-cpp/archive/881963eb33687b3ff40746e3d2a9e1d874b9fc6b.tar.gz",
            "https://archives.sample.invalid/abseil/abseil-cpp/archive/881963eb33687b3ff40746e3d2a9e1d874b9fc6b.tar.gz",
        ],
    )
