"""LitServe with batches, as its documentation has it; a peer of `serving.py`, which starts it."""

import sys
from pathlib import Path
from typing import Any

import litserve
import torch
from fastapi import Request
from PIL import Image
from serving import build_net, top_five


class Api(litserve.LitAPI):
    """Decoding, batches and answers as the others have them; its processes need it at the top."""

    def __init__(self, model: str, folder: Path, **more: Any) -> None:
        super().__init__(**more)
        self.model, self.folder = model, folder

    def setup(self, device: str) -> None:
        self.net, self.transform, self.names = build_net(self.model, self.folder)

    def decode_request(self, request: Request) -> Any:
        return self.transform(Image.open(request["file"].file).convert("RGB"))

    def batch(self, inputs: list[Any]) -> Any:
        return torch.stack(inputs)

    def predict(self, inputs: Any) -> Any:
        with torch.inference_mode():
            return self.net(inputs)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"top": top_five(output, self.names)}


if __name__ == "__main__":
    model, _, _, folder, port = sys.argv[1:]
    api = Api(model, Path(folder), max_batch_size=16, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(port=int(port), generate_client_file=False, log_level="warning")
