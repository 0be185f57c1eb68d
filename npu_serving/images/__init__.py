"""Docker images, made reproducibly: the engine, its containers, the toolchain image, base images."""
