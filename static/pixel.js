// The pixel.
