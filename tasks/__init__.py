"""What is done: one module per unit of work, pure kernels first. Imports `schemas`, never `flows`."""
