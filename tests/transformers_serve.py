"""`transformers serve` beside a CPU-only torch: Pillow decodes images, as torchvision's compiled decoder is not there.

Run by the environment of `.ci/engine.sh`: python tests/transformers_serve.py CHECKPOINT PORT
"""

import sys

import transformers.image_processing_backends as backends
from transformers import image_utils
from transformers.cli.transformers import main

backends.load_image_as_tensor = lambda image, timeout=None: image_utils.load_image(image, timeout=timeout)

if __name__ == "__main__":
    checkpoint, port = sys.argv[1:]
    sys.argv = ["transformers", "serve", checkpoint, "--host", "127.0.0.1", "--port", port]
    sys.argv += ["--device", "cpu", "--dtype", "float32"]
    main()
