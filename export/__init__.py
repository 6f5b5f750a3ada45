"""From a bundle to files for a device: ONNX, checked against the model before it is kept."""
