"""Networks, views and heads as ONNX graphs."""
