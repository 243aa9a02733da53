"""Files on disk: written completely or not at all; tensors in the safetensors format."""
