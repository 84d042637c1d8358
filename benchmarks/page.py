"""The page under load, on loopback: many users at once, malformed uploads, and whether memory stays flat afterwards.

    python benchmarks/page.py --model birds --users 8 --requests 200 --malformed 100 --long 500

Prints one JSON object. The server is the command `s2igan serve` in a process of its own; requests are bounded in number
and time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import soundfile
from PIL import Image

import s2igan

EXAMPLES = Path(s2igan.__file__).parent / "web" / "examples"
TIMEOUT_SECONDS = 60.0


def ask(address: str, content: bytes, seed: int) -> tuple[int, dict, float]:
    """Status, answer and seconds of one request for a picture."""
    started = time.monotonic()
    request = Request(f"{address}/api/draw?samples=1&seed={seed}", data=content, method="POST")
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.load(answer), time.monotonic() - started
    except HTTPError as error:
        return error.code, json.load(error), time.monotonic() - started


def wav(samples: np.ndarray, rate: int = 22_050, subtype: str = "PCM_16") -> bytes:
    """The content of a wav."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="WAV", subtype=subtype)
    return content.getvalue()


def malformed(number: int) -> bytes:
    """No recording: noise, other files, wavs and flacs with impossible headers or cut in them, and sound of nothing."""
    rng = np.random.default_rng(number)
    said = 0.3 * rng.standard_normal(22_050)
    whole, flac, picture = wav(said), io.BytesIO(), io.BytesIO()
    soundfile.write(flac, said, 22_050, format="FLAC")
    Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(picture, "PNG")
    at = int(rng.integers(5, 40))
    kinds = [
        rng.bytes(int(rng.integers(1, 50_000))),
        b"",
        json.dumps({"audio": "a bird with a red belly", "number": number}).encode(),
        picture.getvalue(),
        zlib.compress(whole),
        whole[:at],
        whole[:22] + bytes(2) + whole[24:],  # no channels
        whole[:24] + bytes(4) + whole[28:],  # no rate
        flac.getvalue()[:at],
        wav(np.zeros(22_050)),
        wav(np.full(22_050, np.nan), subtype="FLOAT"),
        wav(said[:20]),
    ]
    return kinds[number % len(kinds)]


def damaged(recordings: list[bytes], number: int) -> bytes:
    """A recording with bytes of its beginning changed, cut somewhere."""
    rng = np.random.default_rng(number)
    broken = bytearray(recordings[number % len(recordings)])
    for at in rng.integers(0, 300, 30):
        broken[at] = rng.integers(256)
    return bytes(broken[: rng.integers(1, len(broken))])


def memory_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert kilobytes is not None
    return round(int(kilobytes[1]) / 1024, 1)


def is_sentence(answer: tuple[int, dict, float]) -> bool:
    """Whether a request was refused as its sender's fault, in words alone."""
    status, content, _ = answer
    return 400 <= status < 500 and list(content) == ["error"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="birds")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--malformed", type=int, default=100)
    parser.add_argument(
        "--long", type=int, default=500, help="requests, one after the other, that memory is watched over"
    )
    options = parser.parse_args()
    command = [sys.executable, "-m", "s2igan", "serve", options.model, "--port", "0", "--per-minute", "1000000"]
    recordings = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.mp3"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            found = re.search(r"http://\S+", server.stdout.readline())  # type: ignore[union-attr]
            assert found is not None
            address = found[0]
            ask(address, recordings[0], 0)

            def one(number: int) -> tuple[int, dict, float]:
                return ask(address, recordings[number % len(recordings)], number)

            with ThreadPoolExecutor(options.users) as users:
                answers = list(users.map(one, range(options.requests)))
            seconds = [took for _, _, took in answers]
            refused = [ask(address, malformed(number), 1) for number in range(options.malformed)]
            hurt = [ask(address, damaged(recordings, number), 1) for number in range(options.malformed)]
            alive = ask(address, recordings[0], 1)[0] == 200
            memory = [memory_mb(server.pid)]
            for number in range(options.long):
                one(number)
                if number % 50 == 49:
                    memory.append(memory_mb(server.pid))
        finally:
            server.terminate()
    record = {
        "model": options.model,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "other_load": round(os.getloadavg()[0], 1),
        "users": options.users,
        "requests": options.requests,
        "failed": sum(status != 200 for status, _, _ in answers),
        "seconds_median": round(float(np.median(seconds)), 3),
        "seconds_p95": round(float(np.percentile(seconds, 95)), 3),
        "malformed": options.malformed,
        "malformed_refused_with_a_sentence": sum(map(is_sentence, refused)),
        "damaged_drawn": sum(status == 200 for status, _, _ in hurt),
        "damaged_refused_with_a_sentence": sum(map(is_sentence, hurt)),
        "alive_afterwards": alive,
        "memory_mb_every_50_requests": memory,
        "memory_growth_percent": round(100 * (memory[-1] / memory[0] - 1), 1),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
