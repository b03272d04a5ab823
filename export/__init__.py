"""From a checkpoint to a verified ONNX file (extra `export`)."""
