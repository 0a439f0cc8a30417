"""Training steps in float32, under plain autocast to bfloat16, and with slow depthwise convolutions outside autocast.

Forward and backward pass of 16 images, one thread, CPU seconds; the smallest of several, each way
twice in turn.
"""

import argparse
import time

import timm
import torch

from ensembler.networks.depthwise import learn_depthwise_in_float32

NETWORKS = [
    "efficientnet_b0:64",
    "efficientnet_b0:128",
    "mobilenetv3_large_100:128",
    "convnext_atto:96",
    "resnet18:64",
]


def seconds_an_image(name: str, size: int, way: str) -> float:
    network = timm.create_model(name, num_classes=10).to(memory_format=torch.channels_last)
    if way == "ens":
        learn_depthwise_in_float32(network)
    images = torch.randn(16, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (16,))
    seconds = []
    for _ in range(4):
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "float32"):
            logits = network(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        seconds.append(time.process_time() - began)
    return min(seconds) / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NAME:SIZE")
    torch.set_num_threads(1)
    for given in parser.parse_args().networks:
        name, size = given.split(":")
        ways = ("float32", "autocast", "ens")
        best = {
            way: min(seconds_an_image(name, int(size), way) for _ in range(2))
            for way in ways
        }
        told = ", ".join(
            f"{way} {1000 * s:.2f} ms ({best['float32'] / s:.2f} x)"
            for way, s in best.items()
        )
        print(f"{name} at {size} px: {told}", flush=True)


if __name__ == "__main__":
    main()
