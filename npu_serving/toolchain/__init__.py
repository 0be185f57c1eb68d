"""What a build needs from the machine or from an image: the requirements, the examination, the image."""
