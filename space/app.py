"""Serves a model as a Space of the Hugging Face hub, which shows the page in a frame of its own."""

import os

import uvicorn

from s2igan import SpeechToImage
from s2igan.web.app import EXAMPLES, Server, make_app

NAME = os.environ.get("S2IGAN_MODEL", "birds")
FRAMES = "https://huggingface.co https://*.hf.space"

model = SpeechToImage.from_pretrained(NAME)
examples = EXAMPLES if model.exported is not None and "birds" in model.exported.recipe else None
app = make_app(Server(model, NAME, examples=examples), hosts=("*",), frames=FRAMES)

if __name__ == "__main__":
    # The hub's proxy says in a header who asks, by which requests are counted.
    uvicorn.run(app, host="0.0.0.0", port=7860, server_header=False, forwarded_allow_ips="*")
