"""Networks that others made, through the importers: one table per kind, made again by one command each.

`python -m tests.peers.architectures` needs torchvision and transformers, `python -m tests.peers.trained_files FOLDER`
onnxruntime and ai-edge-litert and a folder with trained files. Neither is among the package's own dependencies: where
they are missing the tests of this folder skip.
"""
