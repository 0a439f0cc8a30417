"""Decoding takes little memory, and threads wait for each other when it is short."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from images import PIXELS
from PIL import Image

from ensembler.data import decoding, decoding_memory
from ensembler.data.decoding import decode

PEAK = """
import resource, sys
from pathlib import Path
import cv2
from PIL import Image
from ensembler.data.decoding import decode
Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = decode(Path(sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024 / (image.shape[0] * image.shape[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "x.png"), ("RGBA", "x.png"), ("I;16", "x.png"), ("F", "x.tif")],
)
def test_a_large_image_takes_a_few_bytes_a_pixel(save, mode, name):
    path = save(Image.new(mode, (4000, 4000)), name)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < decoding_memory.BYTES_OF_OTHERS


def test_threads_wait_for_each_other_when_memory_is_short(save, monkeypatch):
    path = save(Image.fromarray(PIXELS), "x.png")
    cost = PIXELS.shape[0] * PIXELS.shape[1] * decoding_memory.BYTES_OF_OTHERS
    monkeypatch.setattr(
        decoding_memory, "_memory", decoding_memory.DecodingMemory(2 * cost)
    )
    lock, at_work, most = threading.Lock(), 0, 0
    convert = decoding.to_uint8

    def slow(image, bits):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return convert(image, bits)

    monkeypatch.setattr(decoding, "to_uint8", slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [path] * 16))
    assert most == 2


def test_an_image_larger_than_all_memory_is_decoded_alone(save, monkeypatch):
    monkeypatch.setattr(decoding_memory, "_memory", decoding_memory.DecodingMemory(10))
    path = save(Image.fromarray(PIXELS), "x.png")
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(image, PIXELS) for image in pool.map(decode, [path] * 8))


@pytest.mark.slow
def test_a_process_made_while_others_decode_does_not_wait_for_them(save):
    path = save(Image.fromarray(PIXELS), "x.png")
    code = f"""
import os, sys, threading
from pathlib import Path
from ensembler.data import decoding, decoding_memory
held = threading.Event()
def hold():
    with decoding_memory._memory.taken(10**18):
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(decoding.decode(Path({str(path)!r})).shape[0])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["24"]
