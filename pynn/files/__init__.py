"""Files on disk: atomic writing, and tensors in the safetensors format."""
