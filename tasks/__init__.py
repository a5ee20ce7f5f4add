"""What is done: a package per subject, pure kernels first. Imports `schemas`, never `flows`."""
