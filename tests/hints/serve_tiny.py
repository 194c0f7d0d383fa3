"""Runs ``transformers serve`` for a model without torchvision: folder, port."""

import sys

from transformers.cli.serve import Serve
from transformers.cli.serving.model_manager import ModelManager

from ptdpo.models import load_processor


def main():
    folder, port = sys.argv[1:]
    # transformers would take AutoProcessor, which needs torchvision for the video half of Qwen3-VL's processor.
    ModelManager._load_processor = lambda *_, **__: load_processor(folder)
    Serve(force_model=folder, device="cpu", host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main()
