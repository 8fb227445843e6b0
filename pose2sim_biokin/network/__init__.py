"""The network: tensors in, tensors out. All sizes are in `presets`."""
