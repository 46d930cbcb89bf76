"""The operating system: one function a call, the objects over them, keys, doorway, proof, lifecycle."""
