"""Training of the bundled person segmenter: composites, a training loop, the measure on held-out videos."""
