"""Statistics of a layer as a whole, of its pairs of classes, and over depth."""
