"""The order of the images by response, and what is counted from it."""
