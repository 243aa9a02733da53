"""Export trained networks: ONNX files and C source code, both from one list of operations."""
